"""One network by itself, such as a VAE or a ControlNet: a folder with config.json and weights, here or on the Hub."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import RemoteEntryNotFoundError

from tokenflow.errors import ModelError, ModelNotFoundError, looked_in
from tokenflow.models.checkpoints.hub import PARTLY, download_file, download_files, files_below, is_hub_id, list_files
from tokenflow.models.checkpoints.reasons import UNREACHABLE, first_line, hub_reason
from tokenflow.models.checkpoints.weights import PICKLES, choose_variant, files_of_variant

CONFIG = "config.json"


@dataclass(frozen=True)
class NetworkFolder:
    """A network on this machine.

    Attributes:
        folder: has config.json and the weights.
        config: what config.json says.
        variant: of the weights to read.
    """

    folder: Path
    config: dict[str, Any]
    variant: str


def find_network(what: str, setting: str, path: str, subfolders: Sequence[str], dtype: torch.dtype) -> NetworkFolder:
    """The network at a folder or Hub id, downloaded if need be.

    Args:
        what: names it in errors, such as `ControlNet`.
        setting: that names it, too.
        path: folder or Hub id.
        subfolders: where in there to look for config.json, in this order; "" for the folder itself.
        dtype: the precision that the weights are loaded in.

    Raises:
        ModelNotFoundError: there is none.
        ModelError: it is damaged or pickled.
    """
    local = Path(path)
    snapshot = local if local.is_dir() else _snapshot(what, setting, path, subfolders)
    subfolder = next((each for each in subfolders if (snapshot / each / CONFIG).is_file()), None)
    if subfolder is None:
        raise ModelNotFoundError(_missing(what, setting, path, f"it has no {CONFIG}"))
    folder = snapshot / subfolder
    prefix = f"{subfolder}/" if subfolder else ""
    every, unreachable = (files_below(local), None) if local.is_dir() else list_files(path, snapshot)
    files = [file.removeprefix(prefix) for file in every if file.startswith(prefix)]
    variant = choose_variant(files, None, dtype)
    if variant is None and unreachable is not None:
        raise ModelNotFoundError(_missing(what, setting, path, f"{PARTLY}, and {unreachable}"))
    if variant is None:
        pickled = [file for file in files if file.endswith(PICKLES)]
        found = (
            f"it only has the pickled {pickled[0]}, which is refused" if pickled else "it has no safetensors weights"
        )
        raise ModelError(_missing(what, setting, path, found))
    if not local.is_dir():
        download_files(path, snapshot, [prefix + file for file in files_of_variant(files, variant)])
    return NetworkFolder(folder, read_config(what, setting, path, folder / CONFIG), variant)


def _snapshot(what: str, setting: str, path: str, subfolders: Sequence[str]) -> Path:
    """The cache's folder of a Hub id, with the first config.json of the subfolders in it."""
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
