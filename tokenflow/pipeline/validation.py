"""Values given in Python, checked by the same rules as settings in YAML."""

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
        mistakes = [
            f"{'.'.join(map(str, each['loc']))}: {each['msg'].removeprefix('Value error, ')}, got {each['input']!r}"
            for each in error.errors()
        ]
        raise ConfigError("; ".join(mistakes)) from error
