"""Transparent clips: the background that is seen, and formats that keep the transparency."""

import numpy as np
import pytest
from PIL import Image

from tests.video.making import HEIGHT, WIDTH, flat, make
from tokenflow.errors import ClipError, ConfigError, TokenflowWarning
from tokenflow.video import Video, VideoWriter, read_frames
from tokenflow.video.transparency import composite, parse_colour, uncomposite

COLOUR = (200, 100, 40)
CLIPS = [
    ("clip.mov", "qtrle", "argb"),
    ("clip.webm", "libvpx-vp9", "yuva420p"),
    ("clip.apng", "apng", "rgba"),
    ("still.png", None, None),
]
KEEPING = [
    ("out.webm", None, 3),
    ("out.mkv", "vp9", 3),
    ("out.mov", "prores", 3),
    ("out.mkv", "ffv1", 0),
    ("out.webp", None, 3),
    ("out.apng", None, 0),
]
"""Files, codecs, and how far opacity and colours may be off."""


def half_transparent(folder, name, codec, pixel_format):
    image = np.dstack([flat(COLOUR), np.full((HEIGHT, WIDTH), 128, dtype=np.uint8)])
    if codec is None:
        Image.fromarray(image).save(folder / name)
        return folder / name
    return make(folder / name, [image], codec=codec, pixel_format=pixel_format)


@pytest.mark.parametrize(("name", "codec", "pixel_format"), CLIPS)
@pytest.mark.parametrize(
    ("background", "expected"),
    [("black", (100, 50, 20)), ("white", (227, 177, 147)), ("#0000ff", (100, 50, 147))],
)
def test_the_background_is_seen_through_transparent_pixels(tmp_path, name, codec, pixel_format, background, expected):
    (frame,) = read_frames(half_transparent(tmp_path, name, codec, pixel_format), background=background)
    assert np.abs(frame.image.astype(int) - expected).max() <= 4
    assert np.abs(frame.alpha.astype(int) - 128).max() <= 1


def test_without_a_background_it_is_black_with_one_warning(tmp_path):
    clip = half_transparent(tmp_path, *CLIPS[0])
    with pytest.warns(TokenflowWarning, match=r"clip\.mov has transparent pixels, .* set clip\.background") as caught:
        (frame,) = read_frames(clip)
    assert len(caught) == 1
    assert np.abs(frame.image.astype(int) - (100, 50, 20)).max() <= 2


def test_opaque_pixels_in_a_format_with_transparency_give_no_warning(tmp_path):
    Image.fromarray(np.dstack([flat(COLOUR), np.full((HEIGHT, WIDTH), 255, np.uint8)])).save(tmp_path / "a.png")
    (frame,) = read_frames(tmp_path / "a.png")
    np.testing.assert_array_equal(frame.image, flat(COLOUR))


def test_a_transparent_gif(tmp_path):
    shape = np.zeros((16, 16, 4), dtype=np.uint8)
    shape[4:12, 4:12] = (250, 10, 10, 255)
    Image.fromarray(shape).save(tmp_path / "a.gif")
    (frame,) = read_frames(tmp_path / "a.gif", background="white")
    assert frame.image[0, 0].tolist() == [255, 255, 255]
    assert np.abs(frame.image[8, 8].astype(int) - (250, 10, 10)).max() <= 8


def moving_hole():
    """Frames over white and their opacity: a hole and a half-transparent stripe that move."""
    alpha = np.full((5, HEIGHT, WIDTH), 255, np.uint8)
    for index, each in enumerate(alpha):
        each[:8, 8 * index : 8 * index + 8] = 0
        each[16:24, 8 * index :] = 128
    return np.stack([composite(flat(COLOUR), each, (255, 255, 255)) for each in alpha]), alpha


@pytest.mark.parametrize(("name", "codec", "tolerance"), KEEPING)
def test_formats_that_hold_transparency_keep_it(tmp_path, name, codec, tolerance):
    frames, alpha = moving_hole()
    Video(frames, rate=10, alpha=alpha, background="white").write(tmp_path / name, codec=codec)
    written = Video.read(tmp_path / name, background="white")
    assert np.abs(written.alpha.astype(int) - alpha).mean() <= tolerance / 3
    assert np.abs(written.frames.astype(int) - frames).mean() <= max(tolerance, 0.5)
    over_blue = next(iter(Video.read(tmp_path / name, background="blue"))).image
    assert np.abs(over_blue[2, 2].astype(int) - (0, 0, 255)).max() <= 3


def test_a_gif_keeps_what_is_mostly_transparent(tmp_path):
    frames, alpha = moving_hole()
    Video(frames, rate=10, alpha=alpha, background="white").write(tmp_path / "out.gif")
    np.testing.assert_array_equal(Video.read(tmp_path / "out.gif", background="white").alpha, (alpha > 127) * 255)


def test_formats_without_transparency_show_the_background(tmp_path):
    frames, alpha = moving_hole()
    Video(frames, rate=10, alpha=alpha, background="white").write(tmp_path / "out.mp4", quality=5)
    assert np.abs(Video.read(tmp_path / "out.mp4").frames.astype(int) - frames).mean() < 3


def test_the_transparency_of_a_clip_is_written_again(tmp_path):
    clip = half_transparent(tmp_path, "clip.apng", "apng", "rgba")
    Video.read(clip, background="white").write(tmp_path / "out.apng")
    (frame,) = Video.read(tmp_path / "out.apng", background="black")
    assert np.abs(frame.image.astype(int) - (100, 50, 20)).max() <= 2


def test_what_is_seen_and_back():
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    alpha = np.full((16, 16), 128, np.uint8)
    shown = composite(image, alpha, (255, 0, 90))
    assert np.abs(uncomposite(shown, alpha, (255, 0, 90)).astype(int) - image).max() <= 1
    np.testing.assert_array_equal(composite(uncomposite(shown, alpha, (255, 0, 90)), alpha, (255, 0, 90)), shown)


@pytest.mark.parametrize("text", ["", "no colour", "#12"])
def test_what_is_no_colour(tmp_path, text):
    with pytest.raises(ConfigError, match="expected a colour such as white"):
        parse_colour(text)
    with pytest.raises(ValueError, match="expected a colour"):
        read_frames(tmp_path, background=text)


def test_an_opacity_of_another_shape(tmp_path):
    with pytest.raises(ClipError, match=r"expected an alpha of \(2, 32, 64\), uint8; got \(2, 8, 8\)"):
        Video(np.zeros((2, 32, 64, 3), np.uint8), rate=10, alpha=np.zeros((2, 8, 8), np.uint8))
    with VideoWriter(tmp_path / "a.apng", width=WIDTH, height=HEIGHT, rate=10, alpha=True) as writer:
        writer.write(flat(COLOUR))
    assert next(read_frames(tmp_path / "a.apng")).alpha.min() == 255
