"""One network by itself, such as a VAE or a ControlNet: a folder with config.json and weights, here or on the Hub."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import RemoteEntryNotFoundError

from tokenflow.errors import ModelError, ModelNotFoundError, looked_in
from tokenflow.models.checkpoints.folder import CONFIG
from tokenflow.models.checkpoints.hub import PARTLY, download_file, download_files, files_below, is_hub_id, list_files
from tokenflow.models.checkpoints.reasons import UNREACHABLE, first_line, hub_reason
from tokenflow.models.checkpoints.refused import refuse_other_files
from tokenflow.models.checkpoints.weights import (
    DIFFUSERS,
    choose_variant,
    files_of_variant,
    missing_shard,
    named,
    why_no_weights,
)


@dataclass(frozen=True)
class FoundNetwork:
    """A network on this machine or on the Hub, whose weights may not have been downloaded yet.

    Attributes:
        what: names it in errors, such as `ControlNet`.
        setting: that names it, too.
        path: folder or Hub id.
        snapshot: that folder, or the cache's of the commit.
        subfolder: where in there it is; "" for the folder itself.
        config: what its config.json says.
    """

    what: str
    setting: str
    path: str
    snapshot: Path
    subfolder: str
    config: Mapping[str, Any]

    @property
    def folder(self) -> Path:
        """The folder with config.json and the weights."""
        return self.snapshot / self.subfolder


def find_network(what: str, setting: str, path: str, subfolders: Sequence[str]) -> FoundNetwork:
    """The network at a folder or Hub id; of the latter, its configuration is downloaded if need be.

    Args:
        what: names it in errors, such as `ControlNet`.
        setting: that names it, too.
        path: folder or Hub id.
        subfolders: where in there to look for config.json, in this order; "" for the folder itself.

    Raises:
        ModelNotFoundError: there is none.
        ModelError: its configuration is damaged, or it is in another format.
    """
    local = Path(path)
    snapshot = local if local.is_dir() else _snapshot(what, setting, path, subfolders)
    subfolder = next((each for each in subfolders if (snapshot / each / CONFIG).is_file()), None)
    if subfolder is None:
        raise ModelNotFoundError(_missing(what, setting, path, f"it has no {CONFIG}"))
    config = read_config(what, setting, path, snapshot / subfolder / CONFIG)
    return FoundNetwork(what, setting, path, snapshot, subfolder, config)


def fetch_weights(found: FoundNetwork, dtype: torch.dtype) -> str:
    """The variant of the weights to read of a network, downloaded if need be.

    Args:
        found: the network.
        dtype: the precision that the weights are loaded in.

    Raises:
        ModelNotFoundError: they are not in the local cache, and the Hub does not deliver them.
        ModelError: they are pickled, or incomplete.
    """
    is_local = Path(found.path).is_dir()
    prefix = f"{found.subfolder}/" if found.subfolder else ""
    every, unreachable = (files_below(found.snapshot), None) if is_local else list_files(found.path, found.snapshot)
    files = [file.removeprefix(prefix) for file in every if file.startswith(prefix)]
    weights = named(files, DIFFUSERS)
    variant = choose_variant(weights, None, dtype)
    missing = None if variant is None else missing_shard(weights, variant)
    if unreachable is not None and (variant is None or missing is not None):
        raise ModelNotFoundError(_missing(found.what, found.setting, found.path, f"{PARTLY}, and {unreachable}"))
    if variant is None:
        reason = f"it needs safetensors weights and {why_no_weights(files, DIFFUSERS)}"
        raise ModelError(_missing(found.what, found.setting, found.path, reason))
    if missing is not None:
        raise ModelError(_missing(found.what, found.setting, found.path, f"it lacks {missing}, one of its shards"))
    chosen = files_of_variant(weights, variant)
    if not is_local:
        download_files(found.path, found.snapshot, [prefix + file for file in chosen])
    return variant


def with_defaults(config: Mapping[str, Any], network_class: Any) -> dict[str, Any]:
    """A configuration completed by what a class of diffusers takes where it says nothing, or null."""
    parameters = signature(network_class.__init__).parameters.values()
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    return defaults | {name: value for name, value in config.items() if value is not None}


def _snapshot(what: str, setting: str, path: str, subfolders: Sequence[str]) -> Path:
    """The cache's folder of a Hub id, with the first config.json of the subfolders in it."""
    refuse_other_files(path, setting)
    if not is_hub_id(path):
        raise ModelNotFoundError(_missing(what, setting, path, f"there is no such folder{looked_in(path)}"))
    for subfolder in subfolders:
        parts = [part for part in (subfolder, CONFIG) if part]
        try:
            return download_file(path, "/".join(parts)).parents[len(parts) - 1]
        except RemoteEntryNotFoundError as error:
            reason = error
        except (OSError, *UNREACHABLE) as error:
            raise ModelNotFoundError(
                _missing(what, setting, path, f"there is no such folder{looked_in(path)}, and {hub_reason(error)}")
            ) from error
    raise ModelNotFoundError(_missing(what, setting, path, f"on the Hub, {hub_reason(reason)}")) from reason


def read_config(what: str, setting: str, path: str, file: Path) -> dict[str, Any]:
    """What a config.json says.

    Args:
        what: names the network in errors, such as `ControlNet`.
        setting: that names it, too.
        path: folder or Hub id of the network.
        file: the config.json.

    Raises:
        ModelError: it is damaged.
    """
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"the {what} at {path!r} cannot be loaded ({CONFIG} is damaged: {first_line(error)}); download it again, "
            f"or set {setting} to another"
        ) from error


def _missing(what: str, setting: str, path: str, reason: str) -> str:
    return (
        f"there is no {what} at {path!r}: {reason}; expected a folder with {CONFIG} and safetensors weights, a "
        f".safetensors file, or a Hub id: set {setting}"
    )
