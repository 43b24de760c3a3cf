"""A trial: some frames of a clip, edited as the whole would be."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tokenflow
from tests.tiny import save_tiny_setup
from tokenflow import Progress
from tokenflow.config import Config
from tokenflow.errors import Cancelled, ConfigError, OutputError
from tokenflow.events import Event
from tokenflow.pipeline.trial import spread
from tokenflow.report.sheet import LABEL_HEIGHT

FRAMES, HEIGHT, WIDTH = 5, 16, 24
LOSSLESS = ("output.codec=ffv1", "output.container=mkv", "metrics.enabled=false", "inversion.check=false")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_setup(tmp_path_factory.mktemp("setup"), frames=FRAMES, steps=2)


def configured(path: Path, folder: Path, *overrides: str) -> Config:
    places = [f"output.dir={folder / 'out'}", f"trajectories.dir={folder / 'trajectories'}"]
    return tokenflow.load_config(path, [*places, *overrides], {})


@pytest.mark.parametrize("mode", ["pnp", "sdedit"])
def test_a_trial_of_all_frames_is_the_edit_in_which_all_are_keyframes(mode: str, path: Path, tmp_path: Path) -> None:
    config = configured(path, tmp_path, f"edit.mode={mode}", "edit.keyframe_interval=1", *LOSSLESS)
    whole = tokenflow.run(config).frames
    tried = tokenflow.trial(config, FRAMES)
    assert tried.indices == tuple(range(FRAMES))
    assert np.array_equal(tried.source, np.stack([frame.image for frame in tokenflow.Video.read(config.clip.path)]))
    assert np.array_equal(tried.edited, whole)
    assert not np.array_equal(tried.edited, tried.source)


def test_only_the_frames_of_the_trial_are_inverted_and_edited(path: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    config = configured(path, tmp_path)
    tried = tokenflow.trial(config, 2, on_event=events.append)
    assert tried.indices == (1, 3)
    video = tokenflow.Video.read(config.clip.path)
    assert np.array_equal(tried.source, video.frames[[1, 3]])
    assert tried.edited.shape == (2, HEIGHT, WIDTH, 3)
    progress = [event for event in events if isinstance(event, Progress) and event.stage != "load"]
    assert [event.stage for event in progress if not event.done] == ["read", "encode", "invert", "edit", "decode"]
    assert {event.total for event in progress if event.stage in ("encode", "decode")} == {2}
    assert not list(tmp_path.iterdir())


def test_a_trial_has_the_masks_of_its_frames(path: Path, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    given = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    for index in range(FRAMES):
        given[index, :, 8 : 12 + index] = 255
        Image.fromarray(given[index]).save(masks / f"{index}.png")
    region = f"edit.regions=[{{mask: '{masks.as_posix()}', feather: 0}}]"
    tried = tokenflow.trial(configured(path, tmp_path, region), 2)
    assert tried.masks is not None
    assert np.array_equal(tried.masks, given[[1, 3]])
    assert np.array_equal(tried.edited[tried.masks == 0], tried.source[tried.masks == 0])
    assert tokenflow.trial(configured(path, tmp_path), 1).masks is None


@pytest.mark.parametrize(
    ("frames", "count", "indices"),
    [(9, 3, [1, 4, 7]), (24, 3, [4, 12, 20]), (10, 1, [5]), (2, 3, [0, 1]), (1, 1, [0]), (4, 4, [0, 1, 2, 3])],
)
def test_frames_are_the_middles_of_equal_parts(frames: int, count: int, indices: list[int]) -> None:
    assert spread(frames, count) == indices


def test_the_sheet_shows_the_edit_below_the_source_and_replaces_an_earlier_one(path: Path, tmp_path: Path) -> None:
    config = configured(path, tmp_path)
    tokenflow.trial_sheet(config, 1)
    written = tokenflow.trial_sheet(config, 2)
    assert written == tmp_path / "out" / "trial.png"
    assert list((tmp_path / "out").iterdir()) == [written]
    sheet = np.asarray(Image.open(written))
    assert sheet.shape == (2 * (HEIGHT + LABEL_HEIGHT), 2 * WIDTH, 3)
    tried = tokenflow.trial(config, 2)
    for row, images in enumerate((tried.source, tried.edited)):
        top = row * (HEIGHT + LABEL_HEIGHT) + LABEL_HEIGHT
        assert np.array_equal(sheet[top : top + HEIGHT], np.concatenate(list(images), axis=1))


def test_a_file_of_the_users_is_not_replaced(path: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "trial.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"trial\.png was not written by tokenflow"):
        tokenflow.trial_sheet(configured(path, tmp_path), 1)
    assert (tmp_path / "out" / "trial.png").read_bytes() == b"mine"


def test_what_the_whole_clip_refuses_its_trial_refuses_too(path: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the clip has 5 frames"):
        tokenflow.trial(configured(path, tmp_path, "edit.keyframe_interval=6"), 2)
    with pytest.raises(ConfigError, match="count: expected a whole number, 1 or more, got 0"):
        tokenflow.trial(configured(path, tmp_path), 0)


def test_a_trial_can_be_cancelled(path: Path, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        tokenflow.trial(configured(path, tmp_path), 1, cancel=lambda: True)
