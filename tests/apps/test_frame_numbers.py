"""Frame numbers as they are typed."""

import pytest

from tokenflow.apps.frame_numbers import frame_numbers
from tokenflow.errors import ConfigError


@pytest.mark.parametrize(("text", "expected"), [("0", [0]), ("0,12,3", [0, 12, 3]), (" 0, 7 ", [0, 7])])
def test_numbers_are_read_in_order(text: str, expected: list[int]) -> None:
    assert frame_numbers(text) == expected


@pytest.mark.parametrize("text", ["", "a", "1;2", "-1", "1,", "٣"])
def test_anything_else_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="expected frame numbers, such as 0,12,23"):
        frame_numbers(text)
