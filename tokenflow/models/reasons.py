"""Why a model could not be had, in one line each: from what diffusers and the hub raise."""

from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors import SafetensorError


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind if it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def hub_reason(error: OSError) -> str:
    """Why the hub gave nothing."""
    cause = error.__cause__ or error
    if isinstance(cause, GatedRepoError):
        return "the hub gives it only to who accepted its terms: accept them on its page and run `hf auth login`"
    if isinstance(cause, RepositoryNotFoundError):
        return "the hub has none of that name that is open to you"
    return first_line(error) if cause is error else f"the hub cannot be reached ({first_line(cause)})"


DAMAGED = (OSError, ValueError, KeyError, AttributeError, RuntimeError, SafetensorError)
"""What diffusers raises, of its own or passed on, for what is damaged, incomplete or of an unknown class."""
