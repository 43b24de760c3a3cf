from fractions import Fraction

import av
import numpy as np
import pytest

from tests.video.making import flat, make
from tokenflow.video import read_frames
from tokenflow.video.colour import Converter
from tokenflow.video.wide_gamut import to_bt709

COLOURS = [(0, 0, 0), (255, 255, 255), (200, 30, 40), (20, 180, 60), (30, 50, 210), (128, 128, 128)]
MATRICES = {"ITU709": 1, "ITU601": 5, "BT2020": 9}
LIMITED, FULL = 1, 2


def blocks(width=96, height=32):
    return np.concatenate([flat(colour, width // len(COLOURS), height) for colour in COLOURS], axis=1)


def block_colours(image):
    """The colour at the centre of each block."""
    step = image.shape[1] // len(COLOURS)
    return [image[image.shape[0] // 2, step // 2 + step * index].astype(int) for index in range(len(COLOURS))]


def assert_colours(image, within):
    for colour, expected in zip(block_colours(image), COLOURS, strict=True):
        assert np.abs(colour - expected).max() <= within, (colour, expected)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("scale", [LIMITED, FULL])
@pytest.mark.parametrize("codec", [("libx264", "yuv420p"), ("libx264", "yuv420p10le"), ("ffv1", "yuv422p12le")])
def test_known_colours_are_preserved(tmp_path, matrix, scale, codec):
    clip = make(
        tmp_path / "clip.mkv",
        [blocks()] * 2,
        codec=codec[0],
        pixel_format=codec[1],
        options={"crf": "1"} if codec[0] == "libx264" else {},
        tags={"colorspace": MATRICES[matrix], "color_range": scale},
        convert={"dst_colorspace": matrix, "dst_color_range": scale},
    )
    for frame in read_frames(clip):
        assert_colours(frame.image, within=3)


@pytest.mark.parametrize(("height", "matrix"), [(480, "ITU601"), (720, "ITU709")])
def test_an_untagged_clip_has_the_matrix_of_its_size(tmp_path, height, matrix):
    image = blocks(96, height)
    clip = make(
        tmp_path / "clip.mkv",
        [image],
        codec="ffv1",
        pixel_format="yuv444p",
        convert={"dst_colorspace": matrix, "dst_color_range": LIMITED},
    )
    assert_colours(next(read_frames(clip)).image, within=2)


def test_jpeg_video_is_full_range(tmp_path):
    clip = make(
        tmp_path / "clip.mov",
        [blocks()],
        codec="mjpeg",
        pixel_format="yuvj444p",
        options={"qmin": "1", "qmax": "1"},
        convert={"dst_colorspace": "ITU601", "dst_color_range": FULL},
    )
    assert_colours(next(read_frames(clip)).image, within=3)


def test_grey(tmp_path):
    clip = make(tmp_path / "clip.mkv", [flat((90, 90, 90))], codec="ffv1", pixel_format="gray")
    assert np.abs(next(read_frames(clip)).image.astype(int) - 90).max() <= 2


@pytest.mark.parametrize("number", [0, 2, 3, 8, 10, 14])
def test_an_unknown_matrix_counts_as_untagged(number):
    frame = av.VideoFrame.from_ndarray(blocks(), format="rgb24")
    frame = frame.reformat(format="yuv444p", dst_colorspace="ITU601", dst_color_range=LIMITED)
    frame.colorspace = number
    image, _ = Converter(frame, Fraction(1))(frame)
    assert_colours(image, within=3)


def coded_pq(light):
    """SMPTE ST 2084: luminance in cd/m² to code value, by the formula of the standard."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = (light / 10_000) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def test_pq_keeps_the_standard_range_and_rolls_off_highlights():
    light = np.array([0, 5, 20, 50, 100, 203, 500, 1000, 4000])
    codes = np.rint(coded_pq(light) * 65535).astype(np.uint16)
    grey = to_bt709(np.repeat(codes[None, :, None], 3, axis=-1), transfer=16, primaries=9)[0, :, 1]
    kept = light <= 100
    np.testing.assert_allclose(grey[kept], 255 * (light[kept] / 203) ** (1 / 2.4), atol=1)
    assert (np.diff(grey[:8].astype(int)) > 0).all()
    assert 220 < grey[5] < 240
    assert (grey[7], grey[8]) == (255, 255)


def test_hlg_reference_white_matches_pq():
    reference = np.full((1, 1, 3), round(0.75 * 65535), dtype=np.uint16)
    white = np.full((1, 1, 3), 65535, dtype=np.uint16)
    assert np.abs(to_bt709(reference, 18, 9).astype(int) - 227).max() <= 2
    assert to_bt709(white, 18, 9).min() >= 254
    assert to_bt709(np.zeros((1, 1, 3), np.uint16), 18, 9).max() == 0


@pytest.mark.parametrize("primaries", [9, 12])
def test_a_wider_gamut_keeps_grey_and_increases_saturation(primaries):
    image = np.array([[[30_000, 30_000, 30_000], [20_000, 40_000, 20_000]]], dtype=np.uint16)
    ((grey, green),) = to_bt709(image, transfer=1, primaries=primaries)
    assert np.abs(grey.astype(int) - round(30_000 / 257)).max() <= 1
    assert green[1] - green[0] > (40_000 - 20_000) / 257


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_clips_are_converted(tmp_path, transfer):
    clip = make(
        tmp_path / "clip.mkv",
        [flat((128, 128, 128))] * 2,
        codec="libx265",
        pixel_format="yuv420p10le",
        options={"x265-params": "log-level=none"},
        tags={"colorspace": 9, "color_primaries": 9, "color_trc": transfer, "color_range": LIMITED},
        convert={"dst_colorspace": "BT2020", "dst_color_range": LIMITED},
    )
    expected = to_bt709(np.full((1, 1, 3), 128 * 257, dtype=np.uint16), transfer, 9)[0, 0].astype(int)
    for frame in read_frames(clip):
        assert np.abs(frame.image.astype(int) - expected).max() <= 3
