from fractions import Fraction

import av
import numpy as np
import pytest

from tests.video.making import flat, make
from tokenflow.video import read_frames
from tokenflow.video.colour import Converter
from tokenflow.video.wide_gamut import to_standard

COLOURS = [(0, 0, 0), (255, 255, 255), (200, 30, 40), (20, 180, 60), (30, 50, 210), (128, 128, 128)]
MATRICES = {"ITU709": 1, "ITU601": 5, "BT2020": 9}
LIMITED, FULL = 1, 2


def blocks(width=96, height=32):
    return np.concatenate([flat(colour, width // len(COLOURS), height) for colour in COLOURS], axis=1)


def shown(picture):
    """The middle of each block."""
    step = picture.shape[1] // len(COLOURS)
    return [picture[picture.shape[0] // 2, step // 2 + step * index].astype(int) for index in range(len(COLOURS))]


def assert_the_same_colours(picture, within):
    for colour, expected in zip(shown(picture), COLOURS, strict=True):
        assert np.abs(colour - expected).max() <= within, (colour, expected)


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("scale", [LIMITED, FULL])
@pytest.mark.parametrize("codec", [("libx264", "yuv420p"), ("libx264", "yuv420p10le"), ("ffv1", "yuv422p12le")])
def test_known_colours_come_back(tmp_path, matrix, scale, codec):
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
        assert_the_same_colours(frame.picture, within=3)


@pytest.mark.parametrize(("height", "matrix"), [(480, "ITU601"), (720, "ITU709")])
def test_an_untagged_clip_has_the_matrix_of_its_size(tmp_path, height, matrix):
    picture = blocks(96, height)
    clip = make(
        tmp_path / "clip.mkv",
        [picture],
        codec="ffv1",
        pixel_format="yuv444p",
        convert={"dst_colorspace": matrix, "dst_color_range": LIMITED},
    )
    assert_the_same_colours(next(read_frames(clip)).picture, within=2)


def test_jpeg_video_is_full_range(tmp_path):
    clip = make(
        tmp_path / "clip.mov",
        [blocks()],
        codec="mjpeg",
        pixel_format="yuvj444p",
        options={"qmin": "1", "qmax": "1"},
        convert={"dst_colorspace": "ITU601", "dst_color_range": FULL},
    )
    assert_the_same_colours(next(read_frames(clip)).picture, within=3)


def test_grey(tmp_path):
    clip = make(tmp_path / "clip.mkv", [flat((90, 90, 90))], codec="ffv1", pixel_format="gray")
    assert np.abs(next(read_frames(clip)).picture.astype(int) - 90).max() <= 2


@pytest.mark.parametrize("number", [0, 2, 3, 8, 10, 14])
def test_an_unknown_matrix_counts_as_untagged(number):
    frame = av.VideoFrame.from_ndarray(blocks(), format="rgb24")
    frame = frame.reformat(format="yuv444p", dst_colorspace="ITU601", dst_color_range=LIMITED)
    frame.colorspace = number
    assert_the_same_colours(Converter(frame, Fraction(1))(frame), within=3)


def coded_pq(light):
    """SMPTE ST 2084: cd/m² to code, by the standard's formula."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = (light / 10_000) ** m1
    return ((c1 + c2 * power) / (1 + c3 * power)) ** m2


def test_pq_keeps_what_a_standard_screen_shows_and_rolls_off_the_rest():
    light = np.array([0, 5, 20, 50, 100, 203, 500, 1000, 4000])
    codes = np.rint(coded_pq(light) * 65535).astype(np.uint16)
    grey = to_standard(np.repeat(codes[None, :, None], 3, axis=-1), transfer=16, primaries=9)[0, :, 1]
    kept = light <= 100
    np.testing.assert_allclose(grey[kept], 255 * (light[kept] / 203) ** (1 / 2.4), atol=1)
    assert (np.diff(grey[:8].astype(int)) > 0).all()
    assert 220 < grey[5] < 240
    assert (grey[7], grey[8]) == (255, 255)


def test_hlg_shows_its_reference_white_as_pq_does():
    reference = np.full((1, 1, 3), round(0.75 * 65535), dtype=np.uint16)
    white = np.full((1, 1, 3), 65535, dtype=np.uint16)
    assert np.abs(to_standard(reference, 18, 9).astype(int) - 227).max() <= 2
    assert to_standard(white, 18, 9).min() >= 254
    assert to_standard(np.zeros((1, 1, 3), np.uint16), 18, 9).max() == 0


@pytest.mark.parametrize("primaries", [9, 12])
def test_another_gamut_keeps_grey_and_spreads_colours(primaries):
    picture = np.array([[[30_000, 30_000, 30_000], [20_000, 40_000, 20_000]]], dtype=np.uint16)
    ((grey, green),) = to_standard(picture, transfer=1, primaries=primaries)
    assert np.abs(grey.astype(int) - round(30_000 / 257)).max() <= 1
    assert green[1] - green[0] > (40_000 - 20_000) / 257


@pytest.mark.parametrize("transfer", [16, 18])
def test_a_clip_of_high_dynamic_range_is_read(tmp_path, transfer):
    clip = make(
        tmp_path / "clip.mkv",
        [flat((128, 128, 128))] * 2,
        codec="libx265",
        pixel_format="yuv420p10le",
        options={"x265-params": "log-level=none"},
        tags={"colorspace": 9, "color_primaries": 9, "color_trc": transfer, "color_range": LIMITED},
        convert={"dst_colorspace": "BT2020", "dst_color_range": LIMITED},
    )
    expected = to_standard(np.full((1, 1, 3), 128 * 257, dtype=np.uint16), transfer, 9)[0, 0].astype(int)
    for frame in read_frames(clip):
        assert np.abs(frame.picture.astype(int) - expected).max() <= 3
