"""References between settings, `${…}`, as text that OmegaConf reads literally, and back."""

import re
from collections.abc import Callable
from typing import Any


def escape_references(value: Any) -> Any:
    """Nested settings in which every `${` is escaped, so that OmegaConf reads it literally."""
    # Backslashes count only before a reference.
    return _with_strings(value, lambda text: re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + "\\${", text))


def unescape_references(value: Any) -> Any:
    """The settings that `escape_references` made these of."""
    return _with_strings(
        value, lambda text: re.sub(r"(\\+)\$\{", lambda found: found[1][: len(found[1]) // 2] + "${", text)
    )


def _with_strings(value: Any, change: Callable[[str], str]) -> Any:
    """Nested settings with every string in them changed, at any depth."""
    match value:
        case str():
            return change(value)
        case dict():
            return {key: _with_strings(each, change) for key, each in value.items()}
        case list() | tuple():
            return [_with_strings(each, change) for each in value]
    return value
