"""What to say of settings that are wrong: where, what came, what was expected or probably meant.

Knows how pydantic and OmegaConf put it, and the shape of settings; knows none of them by name.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf.errors import GrammarParseError, InterpolationResolutionError
from pydantic import BaseModel

Settings = type[BaseModel]
"""Sections of settings, in sections."""


def explain(mistake: Any, settings: Settings, origins: Mapping[str, str]) -> str:
    """One of pydantic's errors in a line.

    Args:
        mistake: the error.
        settings: what was validated.
        origins: by their keys, where settings come from, if that has to be said.
    """
    key = key_of(mistake)
    shown = repr(key)[1:-1]  # one line, whatever is in it
    within = [each for each in origins if each.startswith(f"{key}.") and isinstance(mistake["input"], dict)]
    source = origin(next(iter(within), key), origins)
    match mistake["type"]:
        case "extra_forbidden":
            return f"{shown}: unknown; {_suggestion(settings, key)}{source}"
        case "missing":
            return f"{shown}: missing; it has no default"
        case "model_type":
            wanted = f"expected the settings {', '.join(_names(settings, key))}"
        case _:
            wanted = _lower_first(mistake["msg"])
    return f"{shown}: {wanted}, and {_shown(mistake['input'])} came{source}"


def key_of(mistake: Any) -> str:
    """The dotted key that one of pydantic's errors is about."""
    return ".".join(str(part) for part in mistake["loc"])


def origin(key: str, origins: Mapping[str, str]) -> str:
    """Where a setting comes from, to stand behind what is wrong with it; nothing where that need not be said."""
    return f" (it comes from {origins[key]})" if key in origins else ""


def meant(settings: Settings, name: str) -> list[str]:
    """The keys that may be meant by a name which is none: their last word, or all of them with other signs between."""
    keys = list(all_keys(settings))
    whole = [key for key in keys if re.sub(r"[-_]+", ".", key) == re.sub(r"[-_]+", ".", name)]
    alike = difflib.get_close_matches(name, {_last(key) for key in keys}, n=1, cutoff=0.8)
    return whole or [key for key in keys if _last(key) in alike]


def all_keys(settings: Settings, section: str = "") -> Iterator[str]:
    """The dotted keys of all sections and settings, from a section on."""
    for name in _names(settings, section):
        key = f"{section}.{name}".lstrip(".")
        yield key
        yield from all_keys(settings, key)


def annotation(settings: Settings, key: str) -> Any:
    """The type of a setting or section; None if there is no such."""
    found: Any = settings
    for name in key.split(".") if key else ():
        field = getattr(found, "model_fields", {}).get(name)
        found = field and field.annotation
    return found


def is_section(kind: Any) -> bool:
    """Whether a type stands for settings of its own."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def one_line(error: Exception) -> str:
    """An error's words, without OmegaConf's about its own types, and with what to do about its references."""
    where = getattr(error, "full_key", None)
    words = " ".join(re.sub(r"\n\s*(full_key|object_type)[^\n]*", "", str(error)).split())
    if isinstance(error, GrammarParseError | InterpolationResolutionError):
        words += r"; where ${ is to refer to nothing, write \${"
    return f"{where}: {words}" if where else words


def _suggestion(settings: Settings, key: str) -> str:
    """What may have been meant by a setting that there is not: one beside it, or of a like name elsewhere."""
    section, _, name = key.rpartition(".")
    beside = difflib.get_close_matches(name, _names(settings, section), n=1)
    near = [f"{section}.{each}".lstrip(".") for each in beside] or meant(settings, name)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"{section or 'the top level'} knows {', '.join(_names(settings, section))}"


def _names(settings: Settings, section: str) -> list[str]:
    """The settings in a section; none in a setting that is no section."""
    found = annotation(settings, section)
    return list(found.model_fields) if is_section(found) else []


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _shown(value: Any) -> str:
    return "null" if value is None else repr(value)


def _lower_first(text: str) -> str:
    text = text.removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
