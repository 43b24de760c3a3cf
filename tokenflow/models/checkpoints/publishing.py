"""Publishing on the Hub: a repository of one's own, and the files of a folder in it."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from tokenflow.errors import ConfigError, OutputError
from tokenflow.models.checkpoints.quiet import quiet_hub
from tokenflow.models.checkpoints.reasons import UNREACHABLE, hub_reason

NAME = re.compile(r"[\w.-]+/[\w.-]+")

NO_TOKEN = "there is no token: set HF_TOKEN to one that may write, or run `hf auth login`"
REFUSED = {
    401: "it does not know the token: set HF_TOKEN to a valid one, or run `hf auth login`",
    403: "the token may not write there: take one with write access, and a name whose owner you are",
}
"""What the Hub's answers to a push mean, by HTTP status."""


def open_repository(name: str, *, private: bool) -> None:
    """Make sure that there is a repository that the token may write to; an existing one stays as public as it is.

    Args:
        name: owner/name.
        private: whether a new one is.

    Raises:
        ConfigError: the name is not one.
        OutputError: the Hub cannot be reached, or refuses.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"push is {name!r}; expected a repository on the Hub, owner/name")
    if get_token() is None:
        raise OutputError(f"{name!r} cannot be pushed to the Hub: {NO_TOKEN}")
    with _explained(name):
        HfApi().create_repo(name, private=private, exist_ok=True)
        HfApi().auth_check(name, write=True)


def upload(name: str, folder: Path, files: Sequence[str], message: str) -> str:
    """Upload files of a folder as one commit.

    Args:
        name: of the repository.
        folder: has the files.
        files: glob patterns relative to it.
        message: of the commit.

    Returns:
        The repository's address.

    Raises:
        OutputError: the Hub cannot be reached, or refuses.
    """
    with _explained(name):
        HfApi().upload_folder(repo_id=name, folder_path=folder, allow_patterns=list(files), commit_message=message)
    return f"{HfApi().endpoint}/{name}"


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Turn the errors of the Hub's library into one line each."""
    try:
        with quiet_hub():
            yield
    except HFValidationError as error:
        raise ConfigError(f"push is {name!r}, which the Hub does not take as a name; choose another") from error
    except (OSError, *UNREACHABLE) as error:
        status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
        reason = REFUSED.get(status or 0) or hub_reason(error)
        raise OutputError(f"{name!r} cannot be pushed to the Hub: {reason}") from error
