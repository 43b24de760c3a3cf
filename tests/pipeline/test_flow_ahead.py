"""Correspondences are found before they are needed, flow in a thread, and nothing else changes."""

import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest

import tokenflow
from tests.tiny import moving_square, tiny_model
from tokenflow import Progress
from tokenflow.correspondence.flow import FlowCorrespondence
from tokenflow.correspondence.pairwise import Pairwise
from tokenflow.events import Event

FRAMES = 7

Correspondence = Literal["flow", "nearest"]
each_correspondence = pytest.mark.parametrize(("correspondence", "stage"), [("flow", "flow"), ("nearest", "match")])


@pytest.fixture(scope="module")
def inverted() -> tokenflow.InvertedClip:
    return tokenflow.invert(tokenflow.Video(moving_square(FRAMES), rate=5), tiny_model(), "a dog", size=16, steps=4)


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The pairs whose fields were searched, in order."""
    pairs: list[tuple[int, int]] = []
    for kind in Pairwise.__subclasses__():
        find: Callable[..., np.ndarray] = kind.find

        def watched(self: Pairwise, first: int, second: int, find: Callable[..., np.ndarray] = find) -> np.ndarray:
            pairs.append((first, second))
            return find(self, first, second)

        monkeypatch.setattr(kind, "find", watched)
    return pairs


@each_correspondence
def test_what_the_first_step_needs_is_waited_for_in_a_stage_and_nothing_is_searched_twice(
    correspondence: Correspondence, stage: str, inverted: tokenflow.InvertedClip, searched: list[tuple[int, int]]
) -> None:
    heard: list[Event] = []
    tokenflow.edit(inverted, "a cat", correspondence=correspondence, keyframe_interval=3, on_event=heard.append)
    progress = [event for event in heard if isinstance(event, Progress)]
    counted = [event for event in progress if event.stage == stage]
    assert progress[0] is counted[0]
    assert counted[0].done == 0
    assert counted[-1].done == counted[-1].total
    assert len(searched) == len(set(searched))
    if correspondence == "flow":  # the others are found while the network works
        assert FRAMES - 3 <= counted[-1].total < len(searched)
    else:
        assert counted[-1].total == len(searched)


def test_flow_of_later_steps_is_found_while_the_network_works(
    inverted: tokenflow.InvertedClip, searched: list[tuple[int, int]]
) -> None:
    """The first call of the network ends only once fields have been found that no step so far has asked for."""
    waited_for: list[int] = []
    enough = threading.Event()

    def cancel() -> bool:
        if waited_for and not enough.is_set():
            deadline = time.monotonic() + 30
            while len(searched) <= waited_for[0] and time.monotonic() < deadline:
                time.sleep(0.001)
            enough.set()
        return False

    def hear(event: Event) -> None:
        if isinstance(event, Progress) and event.stage == "flow" and event.done == event.total:
            waited_for.append(event.total)

    tokenflow.edit(inverted, "a cat", keyframe_interval=3, on_event=hear, cancel=cancel)
    assert len(searched) > waited_for[0]


@each_correspondence
def test_the_edit_is_the_same_to_the_bit_as_with_correspondences_found_when_needed(
    correspondence: Correspondence, stage: str, inverted: tokenflow.InvertedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = tokenflow.edit(inverted, "a cat", correspondence=correspondence, keyframe_interval=3)
    monkeypatch.setattr(Pairwise, "prepare", lambda *_: None)
    when_needed = tokenflow.edit(inverted, "a cat", correspondence=correspondence, keyframe_interval=3)
    assert np.array_equal(ahead.decoded, when_needed.decoded)


def is_searching() -> bool:
    return any(thread.name == "correspondences ahead" for thread in threading.enumerate())


def test_a_cancelled_edit_leaves_no_thread(inverted: tokenflow.InvertedClip, searched: list[tuple[int, int]]) -> None:
    with pytest.raises(tokenflow.Cancelled):
        tokenflow.edit(inverted, "a cat", keyframe_interval=3, cancel=lambda: bool(searched))
    assert not is_searching()


def test_an_error_arrives_as_itself(inverted: tokenflow.InvertedClip, monkeypatch: pytest.MonkeyPatch) -> None:
    def find(self: FlowCorrespondence, first: int, second: int) -> np.ndarray:
        raise MemoryError(f"{first} and {second} are too large")

    monkeypatch.setattr(FlowCorrespondence, "find", find)
    with pytest.raises(MemoryError, match="are too large"):
        tokenflow.edit(inverted, "a cat", keyframe_interval=3)
    assert not is_searching()


@pytest.mark.parametrize("options", [{"propagation": "none"}, {"keyframe_interval": 1}])
def test_an_edit_without_frames_between_keyframes_has_no_such_stage(
    options: dict[str, Any], inverted: tokenflow.InvertedClip
) -> None:
    heard: list[Event] = []
    tokenflow.edit(inverted, "a cat", on_event=heard.append, **options)
    assert {event.stage for event in heard if isinstance(event, Progress)} == {"edit", "decode"}
