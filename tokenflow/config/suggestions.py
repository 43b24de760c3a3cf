"""Error messages for invalid settings: the key, what was expected or probably meant, what was given, and by what."""

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from omegaconf.errors import GrammarParseError, InterpolationResolutionError
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tokenflow.config.renamed import former_name

Section = type[BaseModel]
"""Settings, some of which may be sections of their own."""


def explain(mistake: Any, settings: Section, origins: Mapping[str, str]) -> str:
    """One of pydantic's errors in one line.

    Args:
        mistake: the error, as `ValidationError.errors()` lists it.
        settings: what was validated.
        origins: dotted key -> the environment variable that set it.
    """
    key = key_of(mistake)
    shown = repr(key)[1:-1]  # escapes line breaks
    within = [each for each in origins if each.startswith(f"{key}.") and isinstance(mistake["input"], dict)]
    source = origin(next(iter(within), key), origins)
    match mistake["type"]:
        case "extra_forbidden":
            quotes = "; if it belongs to a sentence, put that in quotes" if mistake["input"] is None else ""
            return f"{shown}: unknown; {_suggestion(settings, key)}{quotes}{source}"
        case "missing":
            names = _names(settings, key)  # of a section, the first is what it cannot be without
            wanted = f"{key}.{names[0]}" if names else key
            return f"{shown}: missing; set {repr(wanted)[1:-1]}=… ({_gist(settings, wanted)})"
        case "model_type":
            expected = f"expected a section with {', '.join(_names(settings, key))}"
        case "tuple_type":
            expected = "expected a list, such as […]"
        case "string_type" if mistake["input"] is not None:
            expected = "expected a string: put it in quotes"
        case _:
            expected = _expected(mistake["msg"])
    former = former_name(key)
    formerly = f" (formerly {former})" if former else ""
    return f"{shown}{formerly}: {expected}, got {_shown(mistake['input'])}{source}"


def key_of(mistake: Any) -> str:
    """The dotted key that one of pydantic's errors is about."""
    return ".".join(str(part) for part in mistake["loc"])


def origin(key: str, origins: Mapping[str, str]) -> str:
    """The environment variable that set a key, as a suffix to an error message; empty if none did."""
    return f" (set by {origins[key]})" if key in origins else ""


def suggest_keys(settings: Section, name: str) -> list[str]:
    """The keys that a misspelt name may stand for: the whole key with other separators, or its last part."""
    keys = list(all_keys(settings))
    whole = [key for key in keys if re.sub(r"[-_]+", ".", key) == re.sub(r"[-_]+", ".", name)]
    close = difflib.get_close_matches(name, {_last(key) for key in keys}, n=1, cutoff=0.8)
    return whole or [key for key in keys if _last(key) in close]


def all_keys(settings: Section, section: str = "") -> Iterator[str]:
    """The dotted keys of all sections and settings below a section."""
    for name in _names(settings, section):
        key = f"{section}.{name}".lstrip(".")
        yield key
        yield from all_keys(settings, key)


def annotation(settings: Section, key: str) -> Any:
    """The type of a setting, a section or an item of a list; None if there is none of that key."""
    found: Any = settings
    for name in key.split(".") if key else ():
        field = getattr(found, "model_fields", {}).get(name)
        found = _item(found) if name.isdigit() else field and field.annotation
    return found


def _item(kind: Any) -> Any:
    """The section that a list has items of; None if it has none."""
    found = (each if is_section(each) else _item(each) for each in get_args(kind))
    return next((each for each in found if each is not None), None)


def description(settings: Section, key: str) -> str:
    """What a setting does."""
    return _field(settings, key).description or ""


def default(settings: Section, key: str) -> Any:
    """The default of a setting that has one."""
    return _field(settings, key).default


def is_section(kind: Any) -> bool:
    """Whether a type is a section of settings."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def one_line(error: Exception) -> str:
    """An error of OmegaConf or YAML in one line: without OmegaConf's own types, and with how to escape a reference."""
    where = getattr(error, "full_key", None)
    message = " ".join(re.sub(r"\n\s*(full_key|object_type)[^\n]*", "", str(error)).split())
    if isinstance(error, GrammarParseError | InterpolationResolutionError):
        message += r"; for a literal ${, write \${"
    return f"{repr(where)[1:-1]}: {message}" if where else message  # repr escapes line breaks


def _suggestion(settings: Section, key: str) -> str:
    """What an unknown key may stand for: a setting beside it, or one of a similar name elsewhere."""
    section, _, name = key.rpartition(".")
    beside = difflib.get_close_matches(name, _names(settings, section), n=1)
    is_in_list = _last(section).isdigit()  # whose settings have little to do with those elsewhere
    near = [f"{section}.{each}".lstrip(".") for each in beside] or ([] if is_in_list else suggest_keys(settings, name))
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"{section or 'the top level'} has {', '.join(_names(settings, section))}"


def _names(settings: Section, section: str) -> list[str]:
    """The settings in a section; none if the key is a plain setting."""
    found = annotation(settings, section)
    return list(found.model_fields) if is_section(found) else []


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _field(settings: Section, key: str) -> FieldInfo:
    section, _, name = key.rpartition(".")
    return annotation(settings, section).model_fields[name]


def _gist(settings: Section, key: str) -> str:
    """The first sentence of a setting's description; for an item of a list, that of the list."""
    sentence = description(settings, re.sub(r"(\.\d+)+$", "", key)).partition(". ")[0].rstrip(".")
    return sentence[:1].lower() + sentence[1:]


def _shown(value: Any) -> str:
    return "null" if value is None else repr(value)


def _expected(message: str) -> str:
    """Pydantic's "Input should be …", or the text of a ValueError of ours, as "expected …"."""
    message = message.removeprefix("Value error, ")
    message = re.sub("^Input should be (?=greater|less)", "expected a number ", message)
    message = re.sub("^Input should (be )?", "expected ", message)
    message = re.sub("^Input is not a valid path.*", "expected a path", message)
    message = re.sub("^(expected a valid [a-z]+), .*", r"\1", message)  # the value itself follows
    return message[:1].lower() + message[1:]
