"""Frame numbers as they are typed."""

import re

from tokenflow.errors import ConfigError


def frame_numbers(text: str) -> list[int]:
    """The numbers in a list such as 0,12,23.

    Raises:
        ConfigError: it is not such a list.
    """
    if re.fullmatch(r"\s*\d+\s*(,\s*\d+\s*)*", text, re.ASCII) is None:
        raise ConfigError(f"expected frame numbers, such as 0,12,23, got {text!r}")
    return [int(number) for number in text.split(",")]
