"""Values given in Python: settings checked by the same rules as in YAML, and arguments by their type."""

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from tokenflow.errors import ConfigError

Section = TypeVar("Section", bound=BaseModel)


def validated(section: type[Section], **values: Any) -> Section:
    """A section of settings with these values.

    Raises:
        ConfigError: naming every value that is wrong, and what was expected.
    """
    try:
        return section(**values)
    except ValidationError as error:
        raise ConfigError("; ".join(_explained(each) for each in error.errors())) from error


def _explained(mistake: Any) -> str:
    """One of pydantic's errors; one of a section as a whole says itself which of its values do not go together."""
    key, message = ".".join(map(str, mistake["loc"])), mistake["msg"].removeprefix("Value error, ")
    return f"{key}: {message}, got {mistake['input']!r}" if key else message


def check_count(name: str, value: object) -> None:
    """Refuse what is not a whole number above 0.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name}: expected a whole number, 1 or more, got {value!r}")


def check_type(function: str, value: object, expected: type, hint: str) -> None:
    """Refuse an argument of another type.

    Args:
        function: which function was called.
        value: what it got.
        expected: what it takes.
        hint: how to get one.

    Raises:
        TypeError: the value is something else.
    """
    if not isinstance(value, expected):
        article = "an" if expected.__name__[0] in "AEIOU" else "a"
        raise TypeError(f"{function} expects {article} {expected.__name__}, got {type(value).__name__}; {hint}")


def check_model(function: str, model: object) -> None:
    """Refuse the name of a model where the model itself is expected.

    Raises:
        TypeError: it is not a loaded model.
    """
    if not hasattr(model, "predict"):
        raise TypeError(f"{function} expects a loaded model, got {type(model).__name__}; load_model(path) loads one")
