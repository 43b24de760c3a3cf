"""Which field an error is about, in the words of the command line."""

import re
from collections.abc import Collection

from markupsafe import Markup

from tokenflow.apps.exit_status import error_message
from tokenflow.errors import ClipError, ClipNotFoundError, ConfigError, ModelError, ModelNotFoundError, TokenflowError

ELSEWHERE = ""
"""The key of what is about no field."""

A_BUG = "this is a fault of tokenflow and not yours; the terminal in which `tokenflow ui` runs shows where it arose"


def by_field(error: Exception, keys: Collection[str]) -> dict[str, str]:
    """The messages of an error by the key of the field they belong to; `ELSEWHERE` for those without a field.

    Args:
        error: any.
        keys: of the fields, and `clip.path`.
    """
    if isinstance(error, ConfigError) and error.mistakes:
        found: dict[str, str] = {}
        for mistake in error.mistakes:
            key, _, text = mistake.partition(": ")
            within = max((each for each in keys if f"{key}.".startswith(f"{each}.")), key=len, default=ELSEWHERE)
            place, message = (within, text) if within == key else (within, mistake)
            found[place] = "; ".join(filter(None, (found.get(place), message)))
        return found
    return {_field(error, keys): error_message(error) or A_BUG}


def _field(error: Exception, keys: Collection[str]) -> str:
    """The field that the cause of an error was entered in."""
    named = [key for key in re.findall(r"[a-z]+(?:\.[a-z_]+)+", str(error)) if key in keys]
    if named and isinstance(error, TokenflowError):
        return named[0]
    if isinstance(error, ClipError | ClipNotFoundError):
        return "clip.path"
    if isinstance(error, ModelError | ModelNotFoundError):
        return "model.path"
    return ELSEWHERE


def note_html(mistake: str) -> str:
    """A mistake that belongs to no field, as HTML; empty if nothing is wrong."""
    return str(Markup('<p class="tf-mistake" role="alert">{}</p>').format(mistake)) if mistake else ""
