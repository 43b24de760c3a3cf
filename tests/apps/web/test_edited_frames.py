"""Frames are taken out of the part of the clip that is edited, and kept under their numbers when they come back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.apps.web.conftest import FRAMES
from tokenflow.apps.uploads import Limits
from tokenflow.apps.web import edited_frames
from tokenflow.apps.web.edited_frames import keep_images, keep_references, take_out, thumbnails
from tokenflow.apps.web.form import EDITED_FRAMES, to_clip, to_edit
from tokenflow.apps.web.space import Space
from tokenflow.errors import ClipError, ConfigError
from tokenflow.video import Video


def write(*paths: Path) -> list[Path]:
    for number, path in enumerate(paths):
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (24, 16), (number, 0, 0)).save(path)
    return list(paths)


@pytest.mark.parametrize(("numbers", "expected"), [("", [0, FRAMES // 2 - 1]), ("1", [1])])
def test_frames_of_the_part_are_taken_out_by_number(
    numbers: str, expected: list[int], values: dict[str, str], clip: str
) -> None:
    taken = take_out(to_clip(values | {"clip.every": "2"}, clip), numbers)
    assert [Path(path).name for path in taken] == [f"frame_{index:05d}.png" for index in expected]
    source = Video.read(clip, every=2).frames
    for index, path in zip(expected, taken, strict=True):
        assert np.array_equal(np.asarray(Image.open(path)), source[index])


def test_a_frame_that_the_clip_does_not_have_is_said(values: dict[str, str], clip: str) -> None:
    with pytest.raises(ConfigError, match=f"frame 9: the clip has {FRAMES} frames"):
        take_out(to_clip(values, clip), "0,9")


def test_uploads_are_kept_together_under_their_names(tmp_path: Path, space: Space) -> None:
    uploads = write(tmp_path / "a" / "frame_0.png", tmp_path / "b" / "frame_5.png")
    kept = keep_images(uploads, space)
    assert kept.parent == space.edited_frames
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {
        path.name: path.read_bytes() for path in uploads
    }
    assert keep_images(uploads[::-1], space) == kept
    assert keep_images(uploads[:1], space) != kept
    images = thumbnails(to_edit({EDITED_FRAMES: str(kept)}))
    assert [label for _, label in images] == ["Frame 0", "Frame 5"]
    assert [image.getpixel((0, 0))[0] for image, _ in images] == [0, 1]


def test_references_are_kept_in_the_order_of_their_names(tmp_path: Path, space: Space) -> None:
    uploads = write(tmp_path / "b" / "tiger.png", tmp_path / "a" / "sand.png")
    kept = keep_references(uploads, space)
    assert [path.name for path in kept] == ["sand.png", "tiger.png"]
    assert all(space.may_read(path) for path in kept)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["picture.png"], "picture.png .* has no frame number at the end of its name"),
        (["frame_1.png", "other_01.png"], "have the same frame number"),
        (["a/frame_1.png", "b/frame_1.png"], "two images are called frame_1.png"),
    ],
)
def test_names_have_to_say_which_frame(names: list[str], message: str, tmp_path: Path, space: Space) -> None:
    with pytest.raises(ConfigError, match=message):
        keep_images(write(*(tmp_path / name for name in names)), space)
    assert list(space.edited_frames.iterdir()) == []


def test_uploads_have_limits(tmp_path: Path, space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = write(tmp_path / "frame_0.png", tmp_path / "frame_1.png")
    with pytest.raises(ClipError, match="24×16, more than 100 pixels"):
        keep_images(uploads, replace(space, limits=Limits(pixels=100)))
    monkeypatch.setattr(edited_frames, "MAX_IMAGES", 1)
    with pytest.raises(ConfigError, match="2 images are more than 1"):
        keep_images(uploads, space)
