"""Why a model could not be loaded, in one line: from what diffusers and the Hub raise."""

import re

from diffusers.loaders.single_file_utils import SingleFileComponentError
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError

DAMAGED = (OSError, ValueError, KeyError, AttributeError, TypeError, RuntimeError, SafetensorError)
"""What diffusers raises for files that are damaged, incomplete or of an unknown class."""

UNUSABLE = (*DAMAGED, SingleFileComponentError)
"""The same for a model in one file."""

UNREACHABLE = (HTTPError, OfflineModeIsEnabled)
"""What the Hub's library raises where the Hub cannot be asked, or refuses."""


ADVICE = re.compile(r"from_pretrained|from_single_file|must be|has no attribute|trust_remote_code|unexpected keyword")
"""In what libraries say to those who program with them."""


def first_line(error: BaseException) -> str:
    """The first line of an error's message; the class of one that has none, or advises how to program."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return type(error).__name__ if not line or ADVICE.search(line) else line


def hub_reason(error: BaseException) -> str:
    """Why the Hub did not deliver."""
    cause = error if isinstance(error, HTTPError) else error.__cause__ or error
    if isinstance(cause, GatedRepoError):
        return "the repository is gated: accept its terms on its page and run `hf auth login`"
    if isinstance(cause, RevisionNotFoundError):
        return "the repository has no such revision: set model.revision to a branch, tag or commit that it has"
    if isinstance(cause, RepositoryNotFoundError):
        return "the Hub has no repository of that name that you can access; if it is private, run `hf auth login`"
    if isinstance(cause, OfflineModeIsEnabled):
        return f"{'' if cause is error else 'it is not in the local cache, and '}HF_HUB_OFFLINE forbids asking the Hub"
    if isinstance(cause, EntryNotFoundError) and not isinstance(cause, LocalEntryNotFoundError):
        return "the repository has no such file"
    is_answer = isinstance(cause, HfHubHTTPError) or not isinstance(cause, HTTPError)
    return first_line(error) if cause is error and is_answer else f"the Hub is unreachable ({first_line(cause)})"
