"""Why a model could not be loaded, in one line: from what diffusers and the Hub raise."""

from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors import SafetensorError


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its class if it has none."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def hub_reason(error: OSError) -> str:
    """Why the Hub did not deliver."""
    cause = error.__cause__ or error
    if isinstance(cause, GatedRepoError):
        return "the repository is gated: accept its terms on its page and run `hf auth login`"
    if isinstance(cause, RepositoryNotFoundError):
        return "the Hub has no repository of that name that you can access"
    return first_line(error) if cause is error else f"the Hub is unreachable ({first_line(cause)})"


DAMAGED = (OSError, ValueError, KeyError, AttributeError, RuntimeError, SafetensorError)
"""What diffusers raises for files that are damaged, incomplete or of an unknown class."""
