import os
from fractions import Fraction
from itertools import chain

import av
import numpy as np
import pytest
from av.stream import Disposition

from tests.video.making import CODECS, HEIGHT, WIDTH, flat, make, number, numbered
from tokenflow.errors import ClipError, ClipNotFoundError, TokenflowWarning
from tokenflow.video import probe, read_frames
from tokenflow.video.decoder import DecodedFrame
from tokenflow.video.deinterlace import deinterlace

COUNT = 12


def images(count=COUNT):
    return [numbered(index) for index in range(count)]


def numbers(frames):
    return [number(frame.image) for frame in frames]


@pytest.mark.parametrize(("codec", "pixel_format", "name"), CODECS)
def test_every_codec_gives_each_frame_once_and_in_order(tmp_path, codec, pixel_format, name):
    clip = make(tmp_path / name, images(), codec=codec, pixel_format=pixel_format)
    frames = list(read_frames(clip))
    assert numbers(frames) == list(range(COUNT))
    assert [frame.time for frame in frames] == [Fraction(index, 25) for index in range(COUNT)]
    assert [frame.duration for frame in frames] == [Fraction(1, 25)] * COUNT
    assert {frame.image.shape for frame in frames} == {(HEIGHT, WIDTH, 3)}
    assert {frame.image.dtype for frame in frames} == {np.dtype(np.uint8)}


def test_probe_agrees_with_reading(tmp_path):
    clip = make(tmp_path / "clip.mp4", images(), sound="aac", rate=Fraction(30_000, 1001))
    info = probe(clip)
    assert (info.width, info.height, info.has_audio) == (WIDTH, HEIGHT, True)
    assert (info.codec, info.profile) == ("h264", "High")
    assert info.rate == Fraction(30_000, 1001)
    assert float(info.duration) == pytest.approx(COUNT / info.rate, abs=0.001)
    assert not probe(make(tmp_path / "mute.mp4", images())).has_audio


@pytest.mark.parametrize("name", ["clip.mkv", "clip.ts"])
def test_a_constant_rate_is_exact_even_if_the_container_rounds(tmp_path, name):
    rate = Fraction(24_000, 1001)
    frames = list(read_frames(make(tmp_path / name, images(), rate=rate)))
    assert [frame.time for frame in frames] == [index / rate for index in range(COUNT)]
    assert [frame.duration for frame in frames] == [1 / rate] * COUNT


def test_a_variable_rate_follows_the_time_stamps(tmp_path):
    times = [Fraction(tick, 90) for tick in (0, 3, 5, 20, 21, 90, 93)]
    clip = make(tmp_path / "clip.mp4", images(len(times)), times=times)
    assert [frame.time for frame in read_frames(clip)] == times


SCREEN = [Fraction(tick, 100) for tick in (0, 50, 100, 104, 108)]
"""Frame times of a screen recording whose last frame is shown for three seconds."""


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
    clip = make(tmp_path / "clip.mp4", images(5), times=SCREEN, end=Fraction(408, 100))
    frames = list(read_frames(clip, **part))
    assert [frame.source_time + frame.duration for frame in frames] == [Fraction(end, 100) for end in ends]


def test_the_last_frame_has_the_duration_in_the_file(tmp_path):
    times = [Fraction(0), Fraction(1, 25), Fraction(10)]
    *_, last = read_frames(make(tmp_path / "clip.mp4", images(3), times=times, end=Fraction(1001, 100)))
    assert last.duration == Fraction(1, 100)


def test_frames_of_elementary_streams_are_counted(tmp_path):
    frames = list(read_frames(make(tmp_path / "clip.h264", images(), container="h264")))
    assert numbers(frames) == list(range(COUNT))
    assert [frame.time for frame in frames] == [Fraction(index, 25) for index in range(COUNT)]


def test_reordered_frames_in_avi_are_counted(tmp_path):
    frames = list(read_frames(make(tmp_path / "clip.avi", images(), options={"bf": "2"})))
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
    frames = list(read_frames(make(tmp_path / name, images()), **part))
    assert numbers(frames) == expected
    assert [frame.source_time for frame in frames] == [Fraction(index, 25) for index in expected]
    assert [frame.time for frame in frames] == [Fraction(index - expected[0], 25) for index in expected]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts"])
@pytest.mark.parametrize(
    "options",
    [
        {"g": "20", "bf": "3"},
        {"g": "20", "x264-params": "open-gop=1:bframes=3"},
        # here the key frame in the index is too late for some starts
        {"g": "12", "x264-params": "open-gop=1:bframes=8:b-adapt=0:b-pyramid=none"},
        {"g": "1000"},
    ],
)
def test_a_start_in_the_middle_gives_the_same_frames_as_reading_from_the_beginning(tmp_path, name, options):
    clip = make(tmp_path / name, images(90), options=options, sound="aac")
    whole = list(read_frames(clip))
    for start in range(54, 76):
        part = next(read_frames(clip, start=start / 25))
        assert number(part.image) == start
        assert part.source_time == whole[start].source_time
        np.testing.assert_array_equal(part.image, whole[start].image)


@pytest.mark.parametrize("part", [{"start": -1}, {"start": float("nan")}, {"frames": 0}, {"every": 0}])
def test_an_invalid_part(tmp_path, part):
    with pytest.raises(ValueError, match="expected start >= 0"):
        read_frames(tmp_path / "clip.mp4", **part)


def test_a_start_past_the_end(tmp_path):
    with pytest.raises(ClipError, match="ends before 9 s; choose an earlier start"):
        list(read_frames(make(tmp_path / "clip.mp4", images()), start=9))


def test_closing_the_iterator_releases_the_file(tmp_path):
    clip = make(tmp_path / "clip.mp4", images())
    frames = read_frames(clip)
    next(frames)
    frames.close()
    clip.unlink()


def test_a_missing_clip(tmp_path):
    for read in (probe, lambda path: list(read_frames(path))):
        with pytest.raises(ClipNotFoundError, match="there is no clip at"):
            read(tmp_path / "no.mp4")


def test_one_frame(tmp_path):
    (frame,) = read_frames(make(tmp_path / "clip.mp4", [numbered(9)]))
    assert (number(frame.image), frame.time, frame.duration) == (9, 0, Fraction(1, 25))


def test_one_pixel(tmp_path):
    (frame,) = read_frames(make(tmp_path / "clip.mkv", [flat((9, 8, 7), 1, 1)], codec="ffv1", pixel_format="bgr0"))
    np.testing.assert_array_equal(frame.image, [[[9, 8, 7]]])


def test_a_file_name_is_not_taken_for_a_pattern_or_a_url(tmp_path):
    names = ["50%d.mp4", "a[b].mkv", "-.mp4", *([] if os.name == "nt" else ["http:x.mp4", "a[b]*.mkv"])]
    for name in names:
        assert len(list(read_frames(make(tmp_path / "clip.mkv", images()).rename(tmp_path / name)))) == COUNT


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotation_is_applied(tmp_path, rotation):
    marked = flat((20, 20, 20))
    marked[: HEIGHT // 2, : WIDTH // 2] = 220
    clip = make(tmp_path / "clip.mp4", [marked] * 3, rotation=rotation)
    expected = np.rot90(marked, rotation // 90)
    frame = next(read_frames(clip))
    assert frame.image.shape == expected.shape
    assert np.abs(frame.image.astype(int) - expected).mean() < 5
    assert (probe(clip).height, probe(clip).width) == expected.shape[:2]


@pytest.mark.parametrize(
    ("aspect", "size"), [(Fraction(4, 3), (85, 32)), (Fraction(1, 2), (64, 64)), (Fraction(1), (64, 32))]
)
def test_pixels_become_square(tmp_path, aspect, size):
    clip = make(tmp_path / "clip.mp4", images(3), aspect=aspect)
    info = probe(clip)
    assert (info.width, info.height) == size
    frames = list(read_frames(clip))
    assert numbers(frames) == [0, 1, 2]
    assert frames[0].image.shape == (size[1], size[0], 3)


def test_rotation_is_applied_after_the_pixel_aspect(tmp_path):
    info = probe(make(tmp_path / "clip.mp4", images(3), aspect=Fraction(2), rotation=90))
    assert (info.width, info.height) == (32, 128)


def combed(index):
    """Two fields in one image: a bar that moves between them."""
    image = flat((20, 20, 20))
    image[0::2, 6 * index : 6 * index + 20] = 220
    image[1::2, 6 * index + 3 : 6 * index + 23] = 220
    return image


def comb_artefacts(image):
    lines = image[..., 0].astype(int)
    return np.abs(lines[1:-1] * 2 - lines[:-2] - lines[2:]).mean()


@pytest.mark.parametrize("count", [2, 7])
@pytest.mark.parametrize(
    ("codec", "options"),
    [("mpeg2video", {"flags": "+ildct+ilme", "qscale": "1"}), ("libx264", {"x264-params": "tff=1"})],
)
def test_interlaced_clips_are_deinterlaced_without_losing_frames(tmp_path, count, codec, options):
    woven = [combed(index) for index in range(count)]
    frames = list(read_frames(make(tmp_path / "clip.mkv", woven, codec=codec, options=options)))
    assert [frame.time for frame in frames] == [Fraction(index, 25) for index in range(count)]
    assert [frame.duration for frame in frames] == [Fraction(1, 25)] * count
    assert max(comb_artefacts(frame.image) for frame in frames) < comb_artefacts(combed(0)) / 4


def decode_interlaced(clip):
    """The decoded frames, still interlaced."""
    with av.open(str(clip)) as file:
        frames = list(file.decode(video=0))
    return [DecodedFrame(frame, Fraction(index, 25), Fraction(1, 25)) for index, frame in enumerate(frames)]


def test_changes_of_size_or_format_between_interlaced_frames_keep_the_order(tmp_path):
    woven = [combed(index) for index in range(3)]
    doubled = [np.repeat(np.repeat(image, 2, 0), 2, 1) for image in woven]
    options = {"x264-params": "tff=1"}
    clips = [
        make(tmp_path / "a.mkv", woven, options=options),
        make(tmp_path / "b.mkv", doubled, options=options),
        make(tmp_path / "c.mkv", doubled, options=options, pixel_format="yuv422p"),
        make(tmp_path / "d.mkv", [image[::2] for image in doubled]),
    ]
    parts = [decode_interlaced(clip) for clip in clips]
    together = list(deinterlace(chain.from_iterable(parts)))
    for decoded, alone in zip(together, chain.from_iterable(map(deinterlace, parts)), strict=True):
        assert decoded.frame.format.name == alone.frame.format.name
        np.testing.assert_array_equal(decoded.frame.to_ndarray(), alone.frame.to_ndarray())


def test_a_single_interlaced_frame(tmp_path):
    clip = make(tmp_path / "clip.mkv", [combed(0)], options={"x264-params": "tff=1"})
    assert len(list(read_frames(clip))) == 1


def two_streams(path, thumbnail_is_default, clip_is_default):
    """A red picture in a stream of its own before the clip."""
    with av.open(str(path), "w") as output:
        streams = []
        for codec, pixel_format, size, is_default in (
            ("mjpeg", "yuvj420p", (160, 120), thumbnail_is_default),
            ("libx264", "yuv420p", (WIDTH, HEIGHT), clip_is_default),
        ):
            stream = output.add_stream(codec, rate=25)
            (stream.width, stream.height), stream.pix_fmt = size, pixel_format
            stream.disposition = Disposition.default if is_default else Disposition(0)
            streams.append(stream)
        output.start_encoding()
        for stream, shown in zip(streams, ([flat((200, 0, 0), 160, 120)], images()), strict=True):
            for index, image in enumerate(shown):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, 25)
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov"])
@pytest.mark.parametrize("defaults", [(False, True), (False, False), (True, False), (True, True)])
def test_a_thumbnail_in_a_stream_of_its_own_is_not_the_clip(tmp_path, name, defaults):
    clip = two_streams(tmp_path / name, *defaults)
    assert (probe(clip).width, probe(clip).height) == (WIDTH, HEIGHT)
    assert numbers(read_frames(clip)) == list(range(COUNT))


@pytest.mark.parametrize(("defaults", "shown"), [((False, True), 2), ((False, False), 2), ((True, False), 1)])
def test_where_thumbnails_cannot_be_told_the_default_stream_is_read_with_a_warning(tmp_path, defaults, shown):
    clip = two_streams(tmp_path / "clip.mkv", *defaults)
    with pytest.warns(TokenflowWarning, match=rf"clip\.mkv has 2 video streams; only stream {shown} is used") as caught:
        frames = list(read_frames(clip))
    assert len(caught) == 1
    assert len(frames) == (COUNT if shown == 2 else 1)
    probe(clip)  # without a warning
