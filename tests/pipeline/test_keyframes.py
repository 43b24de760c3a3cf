"""Edits by frames that were edited elsewhere."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tokenflow
from tests.propagation.pixels.conftest import FRAMES, draw
from tests.tiny import moving_square, save_tiny_setup, tiny_model
from tokenflow import Keyframes, Progress, Video
from tokenflow.batch.jobs import Job
from tokenflow.errors import Cancelled, ClipNotFoundError, ConfigError, OutputError, TokenflowWarning
from tokenflow.events import Event
from tokenflow.models.stable_diffusion import StableDiffusion
from tokenflow.pipeline.keyframes import write_keyframes

DISCS = np.stack([draw(frame, "disc") for frame in range(FRAMES)])
SQUARES = np.stack([draw(frame, "square") for frame in range(FRAMES)])


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return tiny_model()


@pytest.fixture(scope="module")
def inverted(model: StableDiffusion) -> tokenflow.InvertedClip:
    return tokenflow.invert(Video(DISCS, rate=10), model, "a disc", size=16, steps=2)


def test_given_frames_come_back_and_the_others_follow(inverted: tokenflow.InvertedClip) -> None:
    edited = tokenflow.edit(inverted, "a square", mode=Keyframes({0: SQUARES[0], 4: SQUARES[4]}))
    assert np.array_equal(edited.frames[[0, 4]], SQUARES[[0, 4]])
    assert edited.frames.shape == DISCS.shape
    assert edited.decoded.shape == (FRAMES, 16, 16, 3)
    for index in (1, 2, 3):
        before, after = (np.abs(frames[index].astype(int) - SQUARES[index]).mean() for frames in (DISCS, edited.frames))
        assert after < before / 3


@pytest.mark.parametrize(
    "as_given",
    [
        lambda image, folder: image.astype(np.float32) / 255,
        lambda image, folder: torch.from_numpy(image),
        lambda image, folder: Image.fromarray(image),
        lambda image, folder: (Image.fromarray(image).save(folder / "edited.png"), folder / "edited.png")[1],
    ],
    ids=["float", "tensor", "Pillow", "path"],
)
def test_images_may_be_given_in_any_form(as_given: Any, inverted: tokenflow.InvertedClip, tmp_path: Path) -> None:
    edited = tokenflow.edit(inverted, "a square", mode=Keyframes({2: as_given(SQUARES[2], tmp_path)}))
    assert np.array_equal(edited.frames[2], SQUARES[2])


def test_a_larger_image_of_the_same_aspect_is_scaled(inverted: tokenflow.InvertedClip) -> None:
    larger = np.kron(SQUARES[0], np.ones((2, 2, 1), np.uint8))
    edited = tokenflow.edit(inverted, "a square", mode=Keyframes({0: larger}))
    assert np.abs(edited.frames[0].astype(int) - SQUARES[0]).mean() < 3  # of 255, after halving


def test_what_no_given_frame_shows_is_sampled(model: StableDiffusion) -> None:
    leaving = np.stack([np.roll(DISCS[0], -24 + 12 * index, axis=1) for index in range(4)])
    target = np.stack([np.roll(SQUARES[0], -24 + 12 * index, axis=1) for index in range(4)])
    for frames in (leaving, target):
        frames[0, :, 60:] = DISCS[0][:, 60:]  # the object enters from the left, and does not come around
    inverted = tokenflow.invert(Video(leaving, rate=10), model, "a disc", size=16, steps=4)
    events: list[Event] = []
    edited = tokenflow.edit(inverted, "a square", mode=Keyframes({0: target[0]}), on_event=events.append)
    assert np.array_equal(edited.frames[0], target[0])
    assert {event.stage for event in events if isinstance(event, Progress)} >= {"carry"}


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({}, "expected at least one edited frame"),
        ({FRAMES: SQUARES[0]}, f"edited frame {FRAMES}: the clip has {FRAMES} frames; expected 0 to {FRAMES - 1}"),
        ({-1: SQUARES[0]}, "edited frame -1"),
        ({True: SQUARES[0]}, "edited frame True"),
        ({0: SQUARES[0][:, :40]}, "edited frame 0 is 40×96, but the clip is 96×96"),
        ({0: SQUARES[0][..., 0]}, r"expected an image of shape \(height, width, 3\), got \(96, 96\)"),
        ({0: SQUARES[0].astype(np.int64)}, "expected uint8, or floating point in"),
    ],
)
def test_images_that_cannot_be_used_are_named(
    images: dict[int, Any], message: str, inverted: tokenflow.InvertedClip
) -> None:
    with pytest.raises(ConfigError, match=message):
        tokenflow.edit(inverted, "a square", mode=Keyframes(images))


def test_a_wrong_frame_number_is_noticed(inverted: tokenflow.InvertedClip) -> None:
    night = (DISCS[4] * 0.6).astype(np.uint8)
    with pytest.warns(
        TokenflowWarning, match=r"edited frame 0 has \d+% of the edges of frame 0 .* of frame 4; check its"
    ):
        tokenflow.edit(inverted, "a disc at night", mode=Keyframes({0: night}))


def test_cancelling_stops_the_carrying(inverted: tokenflow.InvertedClip) -> None:
    with pytest.raises(Cancelled):
        tokenflow.edit(inverted, "a square", mode=Keyframes({0: SQUARES[0]}), cancel=lambda: True)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_setup(tmp_path_factory.mktemp("setup"), frames=4, steps=2)


def configured(path: Path, folder: Path, *overrides: str) -> tokenflow.Config:
    places = [f"output.dir={folder / 'out'}", f"trajectories.dir={folder / 'trajectories'}", "inversion.check=false"]
    return tokenflow.load_config(path, ["edit.mode=keyframes", *places, *overrides], {})


def save_inverted(path: Path) -> Path:
    """The clip's first frame with its colours inverted."""
    Image.fromarray(255 - moving_square(4)[0]).save(path)
    return path


@pytest.mark.parametrize("as_folder", [True, False], ids=["folder", "mapping"])
def test_a_configuration_names_files(as_folder: bool, path: Path, tmp_path: Path) -> None:
    image = save_inverted(tmp_path / "frame_00000.png") if not as_folder else None
    if as_folder:
        (tmp_path / "keyframes").mkdir()
        save_inverted(tmp_path / "keyframes" / "frame_00000.png")
    frames = str(tmp_path / "keyframes") if as_folder else f"{{0: {image}}}"
    lossless = ["output.codec=ffv1", "output.container=mkv"]
    result = tokenflow.run(configured(path, tmp_path, f"edit.keyframes.frames={frames}", *lossless))
    assert np.array_equal(result.frames[0], 255 - moving_square(4)[0])
    assert len(result.frames) == 4


@pytest.mark.parametrize(
    ("frames", "error", "message"),
    [
        ("null", ConfigError, "edit.mode keyframes needs edited frames"),
        ("missing", ClipNotFoundError, "the folder missing was not found"),
        ("{0: missing.png}", ClipNotFoundError, "there is no image at missing.png"),
    ],
)
def test_missing_files_are_named_before_the_model_is_loaded(
    frames: str, error: type[Exception], message: str, path: Path, tmp_path: Path
) -> None:
    config = configured(path, tmp_path, f"edit.keyframes.frames={frames}", "model.path=nowhere")
    with pytest.raises(error, match=message):
        tokenflow.run(config)


def test_a_frame_outside_the_clip_is_said_before_the_inversion(path: Path, tmp_path: Path) -> None:
    image = save_inverted(tmp_path / "a.png")
    with pytest.raises(ConfigError, match="edited frame 9: the clip has 4 frames"):
        tokenflow.run(configured(path, tmp_path, f"edit.keyframes.frames={{9: {image}}}"))
    assert not list((tmp_path / "trajectories").rglob("*level*"))


@pytest.mark.parametrize(
    ("names", "message"),
    [(["tiger.png"], "has no frame number"), (["a_3.png", "b_03.png"], "have the same frame number")],
)
def test_names_in_a_folder_have_to_say_which_frame(names: list[str], message: str, path: Path, tmp_path: Path) -> None:
    (tmp_path / "keyframes").mkdir()
    for name in names:
        save_inverted(tmp_path / "keyframes" / name)
    with pytest.raises(ConfigError, match=message):
        tokenflow.run(configured(path, tmp_path, f"edit.keyframes.frames={tmp_path / 'keyframes'}"))


def test_a_changed_image_is_another_edit(path: Path, tmp_path: Path) -> None:
    image = save_inverted(tmp_path / "a.png")
    config = configured(path, tmp_path, f"edit.keyframes.frames={{0: {image}}}")
    assert image in config.inputs
    before = Job(config).identity
    Image.fromarray(moving_square(4)[1]).save(image)
    assert Job(config).identity != before


@pytest.mark.parametrize("call", [tokenflow.trial, tokenflow.seed_sheet])
def test_trials_and_sheets_of_seeds_say_that_there_are_none(call: Any, path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no"):
        call(configured(path, tmp_path, "edit.keyframes.frames={0: a.png}"), 2)


def test_frames_to_edit_are_written_and_never_overwritten(tmp_path: Path) -> None:
    clip = Video(DISCS, rate=10)
    paths = write_keyframes(clip, [4, 0, 4], tmp_path / "new")
    assert [each.name for each in paths] == ["frame_00000.png", "frame_00004.png"]
    assert np.array_equal(np.asarray(Image.open(paths[1])), DISCS[4])
    with pytest.raises(OutputError, match=r"frame_00000.png exists and may have been edited"):
        write_keyframes(clip, [0], tmp_path / "new")
    with pytest.raises(ConfigError, match="frame 5: the clip has 5 frames"):
        write_keyframes(clip, [5], tmp_path / "other")
    assert not (tmp_path / "other").exists()
