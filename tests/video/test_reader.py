from fractions import Fraction
from itertools import chain

import av
import numpy as np
import pytest
from PIL import Image

from tests.video.making import CODECS, HEIGHT, WIDTH, flat, make, number, numbered
from tokenflow.errors import ClipError, ClipNotFoundError
from tokenflow.video import probe, read_frames
from tokenflow.video.decoder import DecodedFrame
from tokenflow.video.deinterlace import deinterlaced

COUNT = 12


def pictures(count=COUNT):
    return [numbered(index) for index in range(count)]


def numbers(frames):
    return [number(frame.picture) for frame in frames]


@pytest.mark.parametrize(("codec", "pixel_format", "name"), CODECS)
def test_every_codec_gives_each_frame_once_and_in_order(tmp_path, codec, pixel_format, name):
    clip = make(tmp_path / name, pictures(), codec=codec, pixel_format=pixel_format)
    frames = list(read_frames(clip))
    assert numbers(frames) == list(range(COUNT))
    assert [frame.time for frame in frames] == [Fraction(index, 25) for index in range(COUNT)]
    assert [frame.duration for frame in frames] == [Fraction(1, 25)] * COUNT
    assert {frame.picture.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
    assert {frame.picture.dtype for frame in frames} == {np.dtype(np.uint8)}


def test_probe_tells_what_reading_gives(tmp_path):
    clip = make(tmp_path / "clip.mp4", pictures(), sound="aac", rate=Fraction(30_000, 1001))
    info = probe(clip)
    assert (info.width, info.height, info.has_audio) == (WIDTH, HEIGHT, True)
    assert (info.codec, info.profile) == ("h264", "High")
    assert info.rate == Fraction(30_000, 1001)
    assert float(info.duration) == pytest.approx(COUNT / info.rate, abs=0.001)
    assert not probe(make(tmp_path / "mute.mp4", pictures())).has_audio


@pytest.mark.parametrize("name", ["clip.mkv", "clip.ts"])
def test_a_constant_rate_is_exact_though_the_container_rounds(tmp_path, name):
    rate = Fraction(24_000, 1001)
    frames = list(read_frames(make(tmp_path / name, pictures(), rate=rate)))
    assert [frame.time for frame in frames] == [index / rate for index in range(COUNT)]
    assert [frame.duration for frame in frames] == [1 / rate] * COUNT


def test_a_variable_rate_is_read_by_its_time_stamps(tmp_path):
    times = [Fraction(tick, 90) for tick in (0, 3, 5, 20, 21, 90, 93)]
    clip = make(tmp_path / "clip.mp4", pictures(len(times)), times=times)
    assert [frame.time for frame in read_frames(clip)] == times


SCREEN = [Fraction(tick, 100) for tick in (0, 50, 100, 104, 108)]
"""A recording of a screen, on which the last picture stands for three seconds."""


@pytest.mark.parametrize(
    ("part", "ends"),
    [
        ({}, [50, 100, 104, 108, 408]),
        ({"frames": 3}, [50, 100, 104]),
        ({"every": 2}, [100, 108, 408]),
        ({"every": 2, "frames": 2}, [100, 108]),
        ({"every": 3}, [104, 408]),
        ({"every": 9}, [408]),
        ({"start": 1.0, "frames": 1}, [104]),
        ({"start": 1.08}, [408]),
    ],
)
def test_each_frame_is_shown_until_the_next_comes_or_the_clip_ends(tmp_path, part, ends):
    clip = make(tmp_path / "clip.mp4", pictures(5), times=SCREEN, end=Fraction(408, 100))
    frames = list(read_frames(clip, **part))
    assert [frame.source_time + frame.duration for frame in frames] == [Fraction(end, 100) for end in ends]


def test_a_last_frame_after_a_gap_is_as_short_as_the_file_says(tmp_path):
    times = [Fraction(0), Fraction(1, 25), Fraction(10)]
    *_, last = read_frames(make(tmp_path / "clip.mp4", pictures(3), times=times, end=Fraction(1001, 100)))
    assert last.duration == Fraction(1, 100)


def test_bare_streams_are_counted(tmp_path):
    frames = list(read_frames(make(tmp_path / "clip.h264", pictures(), container="h264")))
    assert numbers(frames) == list(range(COUNT))
    assert [frame.time for frame in frames] == [Fraction(index, 25) for index in range(COUNT)]


def test_pictures_stored_in_another_order_in_avi_are_counted(tmp_path):
    frames = list(read_frames(make(tmp_path / "clip.avi", pictures(), options={"bf": "2"})))
    assert numbers(frames) == list(range(COUNT))
    assert [frame.time for frame in frames] == [Fraction(index, 25) for index in range(COUNT)]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.ts"])
@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"frames": 3}, [0, 1, 2]),
        ({"frames": 1, "every": 5}, [0]),
        ({"every": 5}, [0, 5, 10]),
        ({"every": 4, "frames": 2}, [0, 4]),
        ({"start": 0.08}, list(range(2, COUNT))),
        ({"start": 0.0801}, list(range(2, COUNT))),
        ({"start": 0.09, "frames": 2}, [3, 4]),
        ({"start": 0.2, "frames": 2, "every": 3}, [5, 8]),
        ({"frames": 99}, list(range(COUNT))),
    ],
)
def test_a_part(tmp_path, name, part, expected):
    frames = list(read_frames(make(tmp_path / name, pictures()), **part))
    assert numbers(frames) == expected
    assert [frame.source_time for frame in frames] == [Fraction(index, 25) for index in expected]
    assert [frame.time for frame in frames] == [Fraction(index - expected[0], 25) for index in expected]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
@pytest.mark.parametrize(
    "options",
    [
        {"g": "20", "bf": "3"},
        {"g": "20", "x264-params": "open-gop=1:bframes=3"},
        # here the key frame that is looked up is too late for some starts
        {"g": "12", "x264-params": "open-gop=1:bframes=8:b-adapt=0:b-pyramid=none"},
        {"g": "1000"},
    ],
)
def test_a_start_in_the_middle_gives_the_same_frames_as_reading_from_the_beginning(tmp_path, name, options):
    clip = make(tmp_path / name, pictures(90), options=options, sound="aac")
    whole = list(read_frames(clip))
    for start in range(54, 76):
        part = next(read_frames(clip, start=start / 25))
        assert number(part.picture) == start
        assert part.source_time == whole[start].source_time
        np.testing.assert_array_equal(part.picture, whole[start].picture)


@pytest.mark.parametrize("part", [{"start": -1}, {"start": float("nan")}, {"frames": 0}, {"every": 0}])
def test_a_part_that_makes_no_sense(tmp_path, part):
    with pytest.raises(ValueError, match="expected start >= 0"):
        read_frames(tmp_path / "clip.mp4", **part)


def test_a_start_past_the_end(tmp_path):
    with pytest.raises(ClipError, match="ends before 9 s; choose an earlier start"):
        list(read_frames(make(tmp_path / "clip.mp4", pictures()), start=9))


def test_reading_stops_without_holding_the_file(tmp_path):
    clip = make(tmp_path / "clip.mp4", pictures())
    frames = read_frames(clip)
    next(frames)
    frames.close()
    clip.unlink()


def test_nothing_there(tmp_path):
    for read in (probe, lambda path: list(read_frames(path))):
        with pytest.raises(ClipNotFoundError, match="there is no clip at"):
            read(tmp_path / "no.mp4")


def test_one_frame(tmp_path):
    (frame,) = read_frames(make(tmp_path / "clip.mp4", [numbered(9)]))
    assert (number(frame.picture), frame.time, frame.duration) == (9, 0, Fraction(1, 25))


def test_one_pixel(tmp_path):
    (frame,) = read_frames(make(tmp_path / "clip.mkv", [flat((9, 8, 7), 1, 1)], codec="ffv1", pixel_format="bgr0"))
    np.testing.assert_array_equal(frame.picture, [[[9, 8, 7]]])


def test_a_name_that_looks_like_a_pattern_or_an_address_is_a_file(tmp_path):
    for name in ("50%d.mp4", "http:x.mp4", "a[b]*.mkv", "-.mp4"):
        assert len(list(read_frames(make(tmp_path / "clip.mkv", pictures()).rename(tmp_path / name)))) == COUNT


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_applied(tmp_path, rotation):
    marked = flat((20, 20, 20))
    marked[: HEIGHT // 2, : WIDTH // 2] = 220
    clip = make(tmp_path / "clip.mp4", [marked] * 3, rotation=rotation)
    expected = np.rot90(marked, rotation // 90)
    frame = next(read_frames(clip))
    assert frame.picture.shape == expected.shape
    assert np.abs(frame.picture.astype(int) - expected).mean() < 5
    assert (probe(clip).height, probe(clip).width) == expected.shape[:2]


@pytest.mark.parametrize(
    ("aspect", "size"), [(Fraction(4, 3), (85, 32)), (Fraction(1, 2), (64, 64)), (Fraction(1), (64, 32))]
)
def test_pixels_become_square(tmp_path, aspect, size):
    clip = make(tmp_path / "clip.mp4", pictures(3), aspect=aspect)
    info = probe(clip)
    assert (info.width, info.height) == size
    frames = list(read_frames(clip))
    assert numbers(frames) == [0, 1, 2]
    assert frames[0].picture.shape == (size[1], size[0], 3)


def test_rotation_comes_after_pixel_aspect(tmp_path):
    info = probe(make(tmp_path / "clip.mp4", pictures(3), aspect=Fraction(2), rotation=90))
    assert (info.width, info.height) == (32, 128)


def combed(index):
    """Two moments in one picture: a bar that moves on between the fields."""
    picture = flat((20, 20, 20))
    picture[0::2, 6 * index : 6 * index + 20] = 220
    picture[1::2, 6 * index + 3 : 6 * index + 23] = 220
    return picture


def comb(picture):
    lines = picture[..., 0].astype(int)
    return np.abs(lines[1:-1] * 2 - lines[:-2] - lines[2:]).mean()


@pytest.mark.parametrize("count", [2, 7])
@pytest.mark.parametrize(
    ("codec", "options"),
    [("mpeg2video", {"flags": "+ildct+ilme", "qscale": "1"}), ("libx264", {"x264-params": "tff=1"})],
)
def test_interlaced_clips_lose_their_combs_and_no_frame(tmp_path, count, codec, options):
    woven = [combed(index) for index in range(count)]
    frames = list(read_frames(make(tmp_path / "clip.mkv", woven, codec=codec, options=options)))
    assert [frame.time for frame in frames] == [Fraction(index, 25) for index in range(count)]
    assert [frame.duration for frame in frames] == [Fraction(1, 25)] * count
    assert max(comb(frame.picture) for frame in frames) < comb(combed(0)) / 4


def as_stored(clip):
    """Its shots with their combs."""
    with av.open(str(clip)) as file:
        frames = list(file.decode(video=0))
    return [DecodedFrame(frame, Fraction(index, 25), Fraction(1, 25)) for index, frame in enumerate(frames)]


def test_interlaced_pictures_of_another_size_or_format_come_through_in_their_places(tmp_path):
    woven = [combed(index) for index in range(3)]
    doubled = [np.repeat(np.repeat(picture, 2, 0), 2, 1) for picture in woven]
    options = {"x264-params": "tff=1"}
    clips = [
        make(tmp_path / "a.mkv", woven, options=options),
        make(tmp_path / "b.mkv", doubled, options=options),
        make(tmp_path / "c.mkv", doubled, options=options, pixel_format="yuv422p"),
        make(tmp_path / "d.mkv", [picture[::2] for picture in doubled]),
    ]
    parts = [as_stored(clip) for clip in clips]
    together = list(deinterlaced(chain.from_iterable(parts)))
    for shot, alone in zip(together, chain.from_iterable(map(deinterlaced, parts)), strict=True):
        assert shot.frame.format.name == alone.frame.format.name
        np.testing.assert_array_equal(shot.frame.to_ndarray(), alone.frame.to_ndarray())


def test_one_interlaced_picture_comes_through(tmp_path):
    clip = make(tmp_path / "clip.mkv", [combed(0)], options={"x264-params": "tff=1"})
    assert len(list(read_frames(clip))) == 1


def test_alpha_is_laid_over_black(tmp_path):
    half = np.dstack([flat((200, 100, 40)), np.full((HEIGHT, WIDTH), 128, dtype=np.uint8)])
    for name, codec, pixel_format in (
        ("clip.mov", "qtrle", "argb"),
        ("clip.webm", "libvpx-vp9", "yuva420p"),
        ("clip.apng", "apng", "rgba"),
    ):
        (frame,) = read_frames(make(tmp_path / name, [half], codec=codec, pixel_format=pixel_format))
        assert np.abs(frame.picture.astype(int) - (100, 50, 20)).max() <= 4, name
    Image.fromarray(half).save(tmp_path / "still.png")
    (frame,) = read_frames(tmp_path / "still.png")
    np.testing.assert_array_equal(frame.picture, flat((100, 50, 20)))
