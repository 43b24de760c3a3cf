"""Correspondences are found before sampling, in a stage of their own, and nothing else changes."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest

import tokenflow
from tests.tiny import moving_square, tiny_model
from tokenflow import Progress
from tokenflow.correspondence.pairwise import Pairwise
from tokenflow.events import Event

FRAMES = 7

Correspondence = Literal["flow", "nearest"]
each_correspondence = pytest.mark.parametrize(("correspondence", "stage"), [("flow", "flow"), ("nearest", "match")])


@pytest.fixture(scope="module")
def inverted() -> tokenflow.InvertedClip:
    return tokenflow.invert(tokenflow.Video(moving_square(FRAMES), rate=5), tiny_model(), "a dog", size=16, steps=4)


@each_correspondence
def test_all_correspondences_are_found_before_the_first_step(
    correspondence: Correspondence, stage: str, inverted: tokenflow.InvertedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Any] = []
    prepared = Pairwise.prepare

    def prepare(self: Pairwise, first: int, second: int) -> None:
        heard.append((first, second))
        prepared(self, first, second)

    monkeypatch.setattr(Pairwise, "prepare", prepare)
    searched = watched_search(monkeypatch, heard)
    tokenflow.edit(inverted, "a cat", correspondence=correspondence, keyframe_interval=3, on_event=heard.append)
    progress = [event for event in heard if isinstance(event, Progress)]
    counted = [event for event in progress if event.stage == stage]
    pairs = [each for each in heard if isinstance(each, tuple) and len(each) == 2]
    assert counted[0].done == 0
    assert counted[-1].done == counted[-1].total == len(pairs) == len(set(pairs)) > FRAMES - 1
    assert searched[-1] < heard.index(next(event for event in progress if event.stage == "edit"))


def watched_search(monkeypatch: pytest.MonkeyPatch, heard: list[Any]) -> list[int]:
    """How many things had been heard when each field was searched."""
    searched: list[int] = []
    for kind in Pairwise.__subclasses__():
        find: Callable[..., np.ndarray] = kind.find

        def watched(self: Pairwise, first: int, second: int, find: Callable[..., np.ndarray] = find) -> np.ndarray:
            searched.append(len(heard))
            return find(self, first, second)

        monkeypatch.setattr(kind, "find", watched)
    return searched


@each_correspondence
def test_the_edit_is_the_same_to_the_bit_as_with_correspondences_found_when_needed(
    correspondence: Correspondence, stage: str, inverted: tokenflow.InvertedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = tokenflow.edit(inverted, "a cat", correspondence=correspondence, keyframe_interval=3)
    monkeypatch.setattr(Pairwise, "prepare", lambda *_: None)
    when_needed = tokenflow.edit(inverted, "a cat", correspondence=correspondence, keyframe_interval=3)
    assert np.array_equal(ahead.decoded, when_needed.decoded)


@pytest.mark.parametrize("options", [{"propagation": "none"}, {"keyframe_interval": 1}])
def test_an_edit_without_frames_between_keyframes_has_no_such_stage(
    options: dict[str, Any], inverted: tokenflow.InvertedClip
) -> None:
    heard: list[Event] = []
    tokenflow.edit(inverted, "a cat", on_event=heard.append, **options)
    assert {event.stage for event in heard if isinstance(event, Progress)} == {"edit", "decode"}
