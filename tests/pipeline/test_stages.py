"""Which stages a run has, and how long they will take all together."""

from pathlib import Path

import pytest

import tokenflow
from tests.tiny import moving_square, save_tiny_model
from tokenflow.config import Config, Edit, Inversion, SDEdit
from tokenflow.events import Event, Notice, Progress
from tokenflow.pipeline.stages import DECODING, NumberedStages, edit_calls, work
from tokenflow.video import VideoWriter

WORK = work(Inversion(steps=10, iterations=2), Edit(prompt="", propagation="none", steps=10))


def heard(stages: list[str], *events: Event) -> list[Progress]:
    """Events as a listener behind `NumberedStages` receives them."""
    received: list[Event] = []
    numbered = NumberedStages(stages, WORK, received.append)
    for event in events:
        numbered(event)
    return [event for event in received if isinstance(event, Progress)]


def test_stages_are_numbered_among_those_of_the_run() -> None:
    events = heard(["invert", "edit"], Progress("load", 0, 1), Progress("invert", 0, 4), Progress("edit", 0, 4))
    assert [(event.stage, event.number, event.stages) for event in events] == [
        ("load", None, None),
        ("invert", 1, 2),
        ("edit", 2, 2),
    ]


def test_other_events_pass() -> None:
    received: list[Event] = []
    NumberedStages(["edit"], WORK, received.append)(Notice("careful"))
    assert received == [Notice("careful")]


def test_the_time_of_later_stages_follows_from_the_speed_of_earlier_ones() -> None:
    # 20 calls per frame to invert and 30 to edit: half of the inversion took 10 s, so the edit will take 30.
    (event,) = heard(["invert", "edit"], Progress("invert", 5, 10, seconds_left=10.0))
    assert event.run_seconds_left == pytest.approx(10 + 30)


def test_without_a_stage_of_its_kind_the_time_of_a_later_one_is_unknown() -> None:
    first, second, third = heard(
        ["encode", "invert", "decode"],
        Progress("encode", 1, 2, seconds_left=3.0),
        Progress("invert", 1, 2, seconds_left=7.0),
        Progress("decode", 0, 2),
    )
    assert first.run_seconds_left is None
    assert second.run_seconds_left == pytest.approx(7 + 6 * DECODING)
    assert third.run_seconds_left == pytest.approx(6 * DECODING)


def test_at_the_end_no_time_is_left() -> None:
    *_, last = heard(["edit"], Progress("edit", 1, 2, seconds_left=5.0), Progress("edit", 2, 2, seconds_left=0.0))
    assert last.run_seconds_left == 0


def test_calls_of_an_edit_fall_with_propagation_and_with_sdedits_strength() -> None:
    per_frame = Edit(prompt="", steps=10, propagation="none")
    assert edit_calls(per_frame) == 30
    assert edit_calls(Edit(prompt="", steps=10, keyframe_interval=4, propagate_edit_until=1.0)) == pytest.approx(7.5)
    assert edit_calls(Edit(prompt="", steps=10)) < edit_calls(Edit(prompt="", steps=10, guidance="per_frame")) < 30
    half = Edit(prompt="", steps=10, propagation="none", mode="sdedit", sdedit=SDEdit(strength=0.5))
    assert edit_calls(half) == 10


def test_prompts_of_regions_are_calls_of_their_own() -> None:
    own = [{"words": "dog", "prompt": "a cat"}, {"words": "grass", "prompt": "snow"}, {"words": "sky"}]
    per_frame = {"prompt": "", "steps": 10, "propagation": "none"}
    assert edit_calls(Edit(**per_frame, regions=own[2:])) == edit_calls(Edit(**per_frame)) == 30
    assert edit_calls(Edit(**per_frame, regions=own)) == 50
    assert edit_calls(Edit(prompt="", steps=10, regions=own)) > 1.5 * edit_calls(Edit(prompt="", steps=10))


def test_a_run_counts_the_stages_that_it_has(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "model")
    with VideoWriter(tmp_path / "clip.mp4", width=24, height=16, rate=10) as video:
        for image in moving_square(3):
            video.write(image)
    content = {
        "clip": {"path": tmp_path / "clip.mp4", "prompt": "a dog", "size": 16},
        "model": {"path": str(tmp_path / "model"), "device": "cpu"},
        "inversion": {"steps": 2, "warn_below_psnr": 0},
        "edit": {"prompt": "a cat", "steps": 2},
        "output": {"dir": tmp_path / "out"},
        "trajectories": {"dir": tmp_path / "trajectories"},
    }
    config = Config.model_validate(content)
    model = tokenflow.load_model(tmp_path / "model", device="cpu")

    def stages(function: object, config: Config) -> list[tuple[str, int | None, int | None]]:
        received: list[Event] = []
        function(config, model=model, on_event=received.append)  # type: ignore[operator]
        progress = [event for event in received if isinstance(event, Progress)]
        return list(dict.fromkeys((event.stage, event.number, event.stages) for event in progress))

    unchecked = config.model_copy(update={"inversion": Inversion(steps=2, check=False)})
    assert stages(tokenflow.preprocess, unchecked) == [("read", 1, 3), ("encode", 2, 3), ("invert", 3, 3)]
    first = ["reconstruct", "compare", "flow", "edit", "decode"]
    assert stages(tokenflow.run, config) == [(name, place, 5) for place, name in enumerate(first, 1)]
    assert stages(tokenflow.run, config) == [("flow", 1, 3), ("edit", 2, 3), ("decode", 3, 3)]
    assert stages(tokenflow.preprocess, config) == []
