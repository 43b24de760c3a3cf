from fractions import Fraction

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.video.making import flat, make, number, numbered
from tokenflow.errors import ClipError, ClipNotFoundError
from tokenflow.video import probe, read_frames

COUNT = 12


def images(count=COUNT):
    return [Image.fromarray(numbered(index)) for index in range(count)]


def numbers(path, **part):
    return [number(frame.image) for frame in read_frames(path, **part)]


@pytest.mark.parametrize("suffix", ["png", "jpg", "JPEG", "webp", "bmp", "tif"])
def test_a_folder_of_images_is_a_clip(tmp_path, suffix):
    for index, image in enumerate(images()):
        image.save(tmp_path / f"frame_{index}.{suffix}")  # without leading zeros: 10 comes after 9
    (tmp_path / "notes.txt").touch()
    (tmp_path / ".hidden.png").touch()
    frames = list(read_frames(tmp_path))
    assert [number(frame.image) for frame in frames] == list(range(COUNT))
    assert [frame.time for frame in frames] == [Fraction(index, 25) for index in range(COUNT)]
    info = probe(tmp_path)
    assert (info.width, info.height, info.rate, info.has_audio) == (64, 32, 25, False)


@pytest.mark.parametrize("pattern", ["frame_%04d.png", "frame_*.png", "frame_????.png", "frame_*"])
def test_a_pattern_of_names(tmp_path, pattern):
    for index, image in enumerate(images()):
        image.save(tmp_path / f"frame_{index:04d}.png")
        image.save(tmp_path / f"other_{index:04d}.png")
        (tmp_path / f"frame_{index:04d}.txt").touch()
    assert numbers(tmp_path / pattern) == list(range(COUNT))
    assert numbers(tmp_path / pattern, start=0.2, frames=2, every=3) == [5, 8]


def test_a_folder_with_an_image_suffix_is_ignored(tmp_path):
    for index in range(2):
        Image.fromarray(numbered(index)).save(tmp_path / f"{index}.png")
    (tmp_path / "0_old.png").mkdir()
    assert numbers(tmp_path) == [0, 1]


def test_a_pattern_without_matches(tmp_path):
    images(1)[0].save(tmp_path / "frame.png")
    for pattern in ("frame_%04d.png", "*.jpg", "no/frame_%d.png", "no/*.png"):
        with pytest.raises(ClipNotFoundError, match="there is no clip"):
            numbers(tmp_path / pattern)


def test_a_folder_without_images(tmp_path):
    with pytest.raises(ClipError, match="is a folder without images; expected a video or"):
        numbers(tmp_path)


def test_images_of_different_sizes(tmp_path):
    images(1)[0].save(tmp_path / "a.png")
    Image.fromarray(flat((0, 0, 0), 32, 32)).save(tmp_path / "b.png")
    with pytest.raises(ClipError, match=r"b\.png is 32×32, but the first image is 64×32"):
        numbers(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n"])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_files_that_are_not_images(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(ClipError, match=r"cannot be read .*; expected an image"):
            numbers(path)


def test_one_image_is_a_clip_of_one_frame(tmp_path):
    images(6)[5].save(tmp_path / "a.png")
    (frame,) = read_frames(tmp_path / "a.png")
    assert (number(frame.image), frame.duration) == (5, Fraction(1, 25))
    assert probe(tmp_path / "a.png").rate == 25


@pytest.mark.parametrize("suffix", ["webp", "png", "apng", "gif", "avif"])
def test_animation_delays_are_kept(tmp_path, suffix):
    durations = [40, 100, 40, 200, 2000]
    first, *rest = images(5)
    kind = {"webp": {"lossless": True}, "gif": {}, "avif": {}}.get(suffix, {"format": "PNG"})
    first.save(tmp_path / f"a.{suffix}", save_all=True, append_images=rest, duration=durations, **kind)
    frames = list(read_frames(tmp_path / f"a.{suffix}"))
    assert [number(frame.image) for frame in frames] == list(range(5))
    assert [frame.time for frame in frames] == [Fraction(sum(durations[:index]), 1000) for index in range(5)]
    assert [frame.duration for frame in frames] == [Fraction(duration, 1000) for duration in durations]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    marked = flat((20, 20, 20), 32, 16)
    marked[:8, :8], marked[8:, :8] = 240, 120
    exif = Image.Exif()
    exif[0x0112] = orientation
    inverse = Image.Exif()
    inverse[0x0112] = {6: 8, 8: 6}.get(orientation, orientation)  # the others are their own inverse
    stored = Image.fromarray(marked)
    stored.info["exif"] = inverse.tobytes()
    stored = ImageOps.exif_transpose(stored)
    stored.save(tmp_path / "a.png", exif=exif)
    (frame,) = read_frames(tmp_path / "a.png")
    np.testing.assert_array_equal(frame.image, marked)


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [("L", 90, 90), ("P", 90, 90), ("1", 255, 255), ("I;16", 90 * 257, 90), ("CMYK", 90, None), ("LA", 90, 90)],
)
def test_images_of_every_mode_become_rgb(tmp_path, mode, value, expected):
    if mode == "I;16":
        image = Image.fromarray(np.full((8, 8), value, dtype=np.uint16))
    else:
        image = Image.new("L", (8, 8), value).convert("RGB" if mode == "CMYK" else "L").convert(mode)
    image.save(tmp_path / "a.tif")
    (frame,) = read_frames(tmp_path / "a.tif")
    assert frame.image.shape == (8, 8, 3)
    assert np.abs(frame.image.astype(int) - (90 if expected is None else expected)).max() <= 1


def test_transparent_gifs_are_composited_over_black(tmp_path):
    shape = np.zeros((16, 16, 4), dtype=np.uint8)
    shape[4:12, 4:12] = (250, 10, 10, 255)
    Image.fromarray(shape).save(tmp_path / "a.gif")
    (frame,) = read_frames(tmp_path / "a.gif")
    assert frame.image[0, 0].tolist() == [0, 0, 0]
    assert np.abs(frame.image[8, 8].astype(int) - (250, 10, 10)).max() <= 8


def test_a_gif_from_an_encoder(tmp_path):
    assert numbers(
        make(tmp_path / "a.gif", [numbered(index) for index in range(COUNT)], codec="gif", pixel_format="rgb8")
    ) == list(range(COUNT))
