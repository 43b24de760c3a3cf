"""Files of adapters: one named directly, one in a folder, or one of a repository on the Hub."""

from collections.abc import Collection
from pathlib import Path

from huggingface_hub import HfApi

from tokenflow.errors import ModelNotFoundError, looked_in
from tokenflow.models.checkpoints import hub
from tokenflow.models.checkpoints.file_kinds import is_file_name
from tokenflow.models.checkpoints.quiet import quiet_hub
from tokenflow.models.checkpoints.reasons import UNREACHABLE, hub_reason

PREFERRED = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "learned_embeds.safetensors")
"""What diffusers and peft call the file of an adapter."""


def find_file(name: str, setting: str) -> Path:
    """The `.safetensors` file of an adapter, downloaded if need be.

    Args:
        name: a file, a folder with one, a Hub id, or a Hub id and a file such as `someone/loras/tiger.safetensors`.
        setting: names it, for errors.

    Raises:
        ModelNotFoundError: there is none, several could be meant, or the Hub does not deliver it.
    """
    path = Path(name)
    if path.is_file() and is_file_name(name):
        return path
    if path.is_dir():
        return path / _choose([file.name for file in path.iterdir()], name, setting)
    repository, file = _on_hub(name)
    if not hub.is_hub_id(repository) or is_file_name(repository):
        raise ModelNotFoundError(
            f"there is no adapter {name!r}{looked_in(name)}; set {setting} to a .safetensors file, a folder with one, "
            "or the id of a repository on the Hub"
        )
    try:
        wanted = file or _choose(_files_of(repository), name, setting)
        return hub.download_file(repository, wanted)
    except (OSError, *UNREACHABLE) as error:
        if isinstance(error, ModelNotFoundError):
            raise
        raise ModelNotFoundError(
            f"there is no adapter {name!r} here, and from the Hub it cannot be had: {hub_reason(error)}; set {setting} "
            "to a file"
        ) from error


def is_here(name: str) -> bool:
    """Whether an adapter is on this machine, so that nothing is downloaded to read it."""
    repository, file = _on_hub(name)
    return Path(name).exists() or any(hub.cached_file(repository, each) for each in ([file] if file else PREFERRED))


def cached_file(name: str) -> str:
    """What names an adapter's file once it was downloaded: its path in the cache, which holds the commit."""
    path = Path(name)
    repository, file = _on_hub(name)
    if path.exists() or not hub.is_hub_id(repository):
        return name
    names = [file] if file else [*PREFERRED]
    commits = [f"{each}@{commit}" for each in names if (commit := hub.cached_commit(repository, each))]
    return f"{name} {' '.join(commits)}"


def _on_hub(name: str) -> tuple[str, str | None]:
    """A repository and the file in it that a name means; None for the file if it does not say."""
    parts = name.split("/")
    return ("/".join(parts[:2]), "/".join(parts[2:])) if len(parts) > 2 and is_file_name(name) else (name, None)


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
