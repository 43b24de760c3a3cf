from fractions import Fraction

import numpy as np
import pytest
from PIL import Image, ImageOps
from PIL.ImageCms import ImageCmsProfile, createProfile

from tests.video.making import adobe_rgb, flat, make, number, numbered, tiff_of_12_bits
from tokenflow.errors import ClipError, ClipNotFoundError, TokenflowWarning
from tokenflow.video import probe, read_frames

COUNT = 12
SRGB = createProfile("sRGB")


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


def test_a_gif_from_an_encoder(tmp_path):
    assert numbers(
        make(tmp_path / "a.gif", [numbered(index) for index in range(COUNT)], codec="gif", pixel_format="rgb8")
    ) == list(range(COUNT))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp"])
def test_colours_are_converted_from_the_profile_of_an_image(tmp_path, name):
    lossless = {"lossless": True} if name == "a.webp" else {"quality": 100} if name == "a.jpg" else {}
    Image.fromarray(flat((60, 160, 60))).save(tmp_path / name, icc_profile=adobe_rgb(), **lossless)
    (frame,) = read_frames(tmp_path / name)
    assert np.abs(frame.image.astype(int) - (0, 161, 47)).max() <= 2


def test_colours_of_a_palette_and_of_transparent_pixels_are_converted_too(tmp_path):
    image = Image.fromarray(flat((60, 160, 60)))
    image.quantize(2).save(tmp_path / "palette.png", icc_profile=adobe_rgb())
    image.putalpha(255)
    image.save(tmp_path / "alpha.png", icc_profile=adobe_rgb())
    for name in ("palette.png", "alpha.png"):
        (frame,) = read_frames(tmp_path / name)
        assert np.abs(frame.image.astype(int) - (0, 161, 47)).max() <= 1, name


@pytest.mark.parametrize(
    ("mode", "profile"), [("RGB", b"no profile"), ("L", adobe_rgb()), ("RGB", ImageCmsProfile(SRGB).tobytes())]
)
def test_a_profile_that_does_not_fit_or_changes_nothing_leaves_the_colours(tmp_path, mode, profile):
    image = Image.fromarray(numbered(0b1010_0110)).convert(mode)
    image.save(tmp_path / "a.png", icc_profile=profile)
    (frame,) = read_frames(tmp_path / "a.png")
    assert np.abs(frame.image.astype(int) - numbered(0b1010_0110)).max() <= 1


def test_the_default_image_of_an_animation_is_no_frame_of_it(tmp_path):
    default, *rest = images(4)
    default.save(tmp_path / "a.png", save_all=True, append_images=rest, default_image=True, duration=40)
    assert numbers(tmp_path / "a.png") == [1, 2, 3]
    assert probe(tmp_path / "a.png").duration == Fraction(120, 1000)


def test_a_thumbnail_in_a_tiff_is_no_frame(tmp_path):
    full, thumbnail = Image.fromarray(numbered(6)), Image.fromarray(numbered(5, 32, 16))
    thumbnail.encoderinfo = {"tiffinfo": {254: 1}}
    full.save(tmp_path / "a.tif", save_all=True, append_images=[thumbnail])
    assert numbers(tmp_path / "a.tif") == [6]


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (0x800, 128), (0xFFF, 255)])
def test_a_tiff_of_12_bits_keeps_its_brightness(tmp_path, value, expected):
    (tmp_path / "a.tif").write_bytes(tiff_of_12_bits(value))
    (frame,) = read_frames(tmp_path / "a.tif")
    assert frame.image[0, 0].tolist() == [expected] * 3


def test_a_tiff_of_16_bits_in_which_zero_is_white(tmp_path):
    Image.fromarray(np.full((8, 8), 90 * 257, np.uint16)).save(tmp_path / "a.tif", tiffinfo={262: 0})
    (frame,) = read_frames(tmp_path / "a.tif")
    assert frame.image[0, 0].tolist() == [165] * 3


def save_numbered(folder, numbers, name="frame_{:04d}.png"):
    for each in numbers:
        Image.fromarray(numbered(each)).save(folder / name.format(each))


def test_a_gap_between_numbered_images_is_told(tmp_path):
    save_numbered(tmp_path, [1, 2, 3, 7, 8])
    with pytest.warns(TokenflowWarning, match=r"lacks 3 of its numbered images between frame_0003\.png and frame_0007"):
        assert numbers(tmp_path) == [1, 2, 3, 7, 8]


@pytest.mark.parametrize("names", [[10, 20, 30, 40], [5], [3, 4, 5]])
def test_equal_steps_are_no_gap(tmp_path, names):
    save_numbered(tmp_path, names)
    (tmp_path / "frame.txt").touch()
    assert numbers(tmp_path) == names


def test_images_that_are_not_numbered_have_no_gaps(tmp_path):
    for name in ("a1_2.png", "a1_9.png", "b7_3.png"):
        Image.fromarray(numbered(1)).save(tmp_path / name)
    assert numbers(tmp_path) == [1, 1, 1]


@pytest.mark.parametrize(("rate", "exact"), [(12.5, Fraction(25, 2)), (23.976, Fraction(24_000, 1001))])
def test_the_rate_of_a_folder_of_images(tmp_path, rate, exact):
    save_numbered(tmp_path, range(6))
    frames = list(read_frames(tmp_path, rate=rate, start=2 / rate, frames=3))
    assert [number(frame.image) for frame in frames] == [2, 3, 4]
    assert [frame.source_time for frame in frames] == [index / exact for index in (2, 3, 4)]
    assert probe(tmp_path, rate=rate).rate == exact
    assert probe(tmp_path, rate=rate).duration == 6 / exact
