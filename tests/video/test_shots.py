"""Shots between cuts."""

import pytest

from tokenflow.errors import ConfigError
from tokenflow.video.shots import check_cuts, cuts_among, shots_of


def test_shots_lie_between_cuts() -> None:
    assert shots_of(5, ()) == (range(5),)
    assert shots_of(5, (2, 4)) == (range(2), range(2, 4), range(4, 5))


@pytest.mark.parametrize("cuts", [[0], [5], [3, 3], [3, 2]])
def test_cuts_have_to_rise_within_the_clip(cuts: list[int]) -> None:
    check_cuts([1, 4], 5)
    with pytest.raises(ConfigError, match=r"clip\.cuts is .*5 frames; expected rising numbers from 1 to 4"):
        check_cuts(cuts, 5)


def test_among_some_of_the_frames_cuts_are_where_another_shot_begins() -> None:
    assert cuts_among([0, 5, 6, 20], [6, 10, 12]) == (2, 3)
    assert cuts_among([7, 8], [6]) == ()
