"""The sheet of an edit from several seeds."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tokenflow
from tests.tiny import moving_square, save_tiny_setup
from tests.video.making import write_pngs
from tokenflow import Notice, Progress
from tokenflow.config import Config
from tokenflow.errors import OutputError
from tokenflow.events import Event
from tokenflow.report.sheet import LABEL_HEIGHT

FRAMES, HEIGHT, WIDTH = 3, 16, 24


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_setup(tmp_path_factory.mktemp("setup"), frames=FRAMES, steps=2)


def configured(path: Path, folder: Path, *overrides: str) -> Config:
    places = [f"output.dir={folder / 'out'}", f"trajectories.dir={path.parent / 'trajectories'}"]
    return tokenflow.load_config(path, [*places, "edit.seed=5", "edit.variation=0.5", *overrides], {})


def row(sheet: np.ndarray, index: int) -> np.ndarray:
    """The images of a row, f H W 3."""
    top = index * (HEIGHT + LABEL_HEIGHT) + LABEL_HEIGHT
    return np.stack(np.split(sheet[top : top + HEIGHT], FRAMES, axis=1))


def test_a_row_per_seed_shows_what_an_edit_from_that_seed_gives(path: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    written = tokenflow.seed_sheet(configured(path, tmp_path), 2, on_event=events.append)
    assert written == tmp_path / "out" / "seeds.png"
    sheet = np.asarray(Image.open(written))
    assert sheet.shape == (3 * (HEIGHT + LABEL_HEIGHT), FRAMES * WIDTH, 3)
    for index, seed in ((1, 5), (2, 6)):
        lossless = ("output.codec=ffv1", "output.container=mkv", "metrics.enabled=false", f"edit.seed={seed}")
        edited = tokenflow.run(configured(path, tmp_path / str(seed), *lossless))
        assert np.array_equal(row(sheet, index), edited.frames)
    assert not np.array_equal(row(sheet, 1), row(sheet, 2))
    assert [event.stage for event in events if isinstance(event, Progress) and not event.done].count("edit") == 2
    assert not [event for event in events if isinstance(event, Notice)]


def test_the_sheet_is_written_beside_a_result_which_stays(path: Path, tmp_path: Path) -> None:
    result = tokenflow.run(configured(path, tmp_path))
    for _ in range(2):  # the second time over the first sheet
        tokenflow.seed_sheet(configured(path, tmp_path), 1)
    assert tokenflow.open_result(tmp_path / "out") == result
    tokenflow.run(configured(path, tmp_path))
    assert (tmp_path / "out" / "seeds.png").exists()


@pytest.mark.parametrize("content", [b"", b"notes"])
def test_a_file_of_the_users_is_not_replaced(content: bytes, path: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "seeds.png").write_bytes(content)
    with pytest.raises(OutputError, match=r"seeds\.png was not written by tokenflow"):
        tokenflow.seed_sheet(configured(path, tmp_path), 1)
    assert (tmp_path / "out" / "seeds.png").read_bytes() == content


def test_an_image_of_the_users_is_not_replaced(path: Path, tmp_path: Path) -> None:
    write_pngs(tmp_path / "out", moving_square(1))
    shutil.move(next((tmp_path / "out").iterdir()), tmp_path / "out" / "seeds.png")
    with pytest.raises(OutputError, match=r"seeds\.png was not written by tokenflow"):
        tokenflow.seed_sheet(configured(path, tmp_path), 1)


def test_the_sheet_does_not_become_a_frame_of_its_clip(path: Path, tmp_path: Path) -> None:
    write_pngs(tmp_path / "out", moving_square(2))
    with pytest.raises(OutputError, match="would be added to the clip"):
        tokenflow.seed_sheet(configured(path, tmp_path, f"clip.path={tmp_path / 'out'}"), 1)
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.parametrize(
    ("settings", "alike"),
    [
        (["edit.variation=0"], True),
        (["edit.variation=0", "edit.mode=sdedit", "edit.sdedit.noise=shared"], False),
        (["edit.mode=sdedit"], False),
    ],
)
def test_where_all_seeds_start_alike_that_is_said(settings: list[str], alike: bool, path: Path, tmp_path: Path) -> None:
    events: list[Event] = []
    tokenflow.seed_sheet(configured(path, tmp_path, *settings), 1, on_event=events.append)
    notices = [event.message for event in events if isinstance(event, Notice)]
    assert any("set edit.variation above 0" in message for message in notices) == alike
