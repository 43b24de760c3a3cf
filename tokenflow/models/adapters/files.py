"""Files of adapters: one named directly, one in a folder, or one of a repository on the Hub."""

from collections.abc import Collection
from pathlib import Path, PurePosixPath

from huggingface_hub import HfApi
from huggingface_hub.errors import RemoteEntryNotFoundError

from tokenflow.errors import ModelNotFoundError, looked_in
from tokenflow.models.checkpoints import hub
from tokenflow.models.checkpoints.file_kinds import is_file_name
from tokenflow.models.checkpoints.quiet import quiet_hub
from tokenflow.models.checkpoints.reasons import UNREACHABLE, hub_reason
from tokenflow.models.checkpoints.refused import refuse_other_files
from tokenflow.models.identity import path_fingerprint

PREFERRED = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "learned_embeds.safetensors")
"""What diffusers and peft call the file of an adapter."""

PEFT_CONFIG = "adapter_config.json"
"""Beside a file that peft wrote."""


def find_file(name: str, setting: str) -> Path:
    """The `.safetensors` file of an adapter, downloaded if need be.

    Args:
        name: a file, a folder with one, a Hub id, or a Hub id and a file such as `someone/loras/tiger.safetensors`.
        setting: names it, for errors.

    Raises:
        ModelNotFoundError: there is none, several could be meant, or the Hub does not deliver it.
        ModelError: it is a pickle, or a web address.
    """
    path = Path(name)
    if path.is_file() and is_file_name(name):
        return path
    if path.is_dir():
        return path / _choose([file.name for file in path.iterdir()], name, setting)
    refuse_other_files(name, setting)
    repository, file = hub.file_on_hub(name) or (name, None)
    if not hub.is_hub_id(repository) or is_file_name(repository):
        raise ModelNotFoundError(
            f"the adapter {name!r} was not found{looked_in(name)}; set {setting} to a .safetensors file, a folder with "
            "one, or the id of a repository on the Hub"
        )
    try:
        wanted = file or _choose(_files_of(repository), name, setting)
        return hub.download_file(repository, wanted)
    except (OSError, *UNREACHABLE) as error:
        if isinstance(error, ModelNotFoundError):
            raise
        raise ModelNotFoundError(
            f"the adapter {name!r} was not found{looked_in(name)} and cannot be downloaded from the Hub: "
            f"{hub_reason(error)}; set {setting} to another"
        ) from error


def is_here(name: str) -> bool:
    """Whether an adapter is on this machine, so that nothing is downloaded to read it."""
    repository, file = hub.file_on_hub(name) or (name, None)
    return Path(name).exists() or any(hub.cached_file(repository, each) for each in ([file] if file else PREFERRED))


def find_peft_config(name: str, file: Path, setting: str) -> Path | None:
    """The configuration that peft wrote beside an adapter's file, downloaded if need be; None if there is none.

    Args:
        name: of the adapter, as `find_file` takes it.
        file: what `find_file` found.
        setting: names it, for errors.

    Raises:
        ModelNotFoundError: the Hub does not say whether there is one.
    """
    beside = file.with_name(PEFT_CONFIG)
    if beside.is_file() or Path(name).exists():
        return beside if beside.is_file() else None
    repository, inside = hub.file_on_hub(name) or (name, None)
    wanted = PurePosixPath(inside or file.name).with_name(PEFT_CONFIG).as_posix()
    try:
        return hub.download_file(repository, wanted)
    except RemoteEntryNotFoundError:
        return None
    except (OSError, *UNREACHABLE) as error:
        raise ModelNotFoundError(
            f"the adapter {name!r} needs its {wanted}, which cannot be downloaded from the Hub: {hub_reason(error)}; "
            f"set {setting} to a folder with both"
        ) from error


def adapter_fingerprint(name: str) -> str:
    """Sixteen hex digits that change with the files of an adapter; of one on the Hub, with the commit in the cache."""
    path = Path(name)
    repository, file = hub.file_on_hub(name) or (name, None)
    if path.is_file():
        return path_fingerprint(name, config=path_fingerprint(str(path.with_name(PEFT_CONFIG))))
    if path.exists() or not hub.is_hub_id(repository):
        return path_fingerprint(name)
    names = [file] if file else [*PREFERRED]
    commits = [f"{each}@{commit}" for each in names if (commit := hub.cached_commit(repository, each))]
    return path_fingerprint(f"{name} {' '.join(commits)}")


def _files_of(repository: str) -> list[str]:
    """The files of a repository; where the Hub cannot be asked, those that diffusers and peft would have written."""
    cached = [file for file in PREFERRED if hub.cached_commit(repository, file)]
    if cached:
        return cached
    with quiet_hub():
        return HfApi().list_repo_files(repository)


def _choose(files: Collection[str], name: str, setting: str) -> str:
    found = [file for file in files if is_file_name(file)]
    preferred = [file for file in PREFERRED if file in found]
    if preferred or len(found) == 1:
        return (preferred or found)[0]
    reason = f"{len(found)} .safetensors files" if found else "no .safetensors file"
    raise ModelNotFoundError(f"{name!r} has {reason}; set {setting} to the one that is meant")
