import os
import runpy
import signal
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import psutil
import pytest

from tests.video.making import HEIGHT, WIDTH, flat, make, need, number, numbered
from tokenflow.errors import OutputError
from tokenflow.video import VideoWriter, encoders, probe, read_frames

CODECS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}
COUNT = 12
VARIABLE = [Fraction(tick, 90) for tick in (0, 3, 5, 20, 21, 90, 93, 95)]


def write(path, images, **settings):
    codec = settings.get("codec", "h264")
    if codec in CODECS:
        need(CODECS[codec])
    height, width = images[0].shape[:2]
    with VideoWriter(path, width=width, height=height, **settings) as writer:
        for image in images:
            writer.write(image)
    return path


def numbers(path):
    return [number(frame.image) for frame in read_frames(path)]


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("h264", "out.mp4"),
        ("h264", "out.mkv"),
        ("hevc", "out.mp4"),
        ("vp9", "out.webm"),
        ("av1", "out.mp4"),
        ("prores", "out.mov"),
        ("mjpeg", "out.mov"),
        ("ffv1", "out.mkv"),
        ("png", "out.mov"),
    ],
)
def test_frame_n_of_the_output_is_frame_n_of_the_input(tmp_path, codec, name):
    source = make(tmp_path / "clip.mp4", [numbered(index) for index in range(COUNT)], rate=Fraction(30_000, 1001))
    frames = list(read_frames(source))
    out = write(tmp_path / name, [frame.image for frame in frames], times=[frame.time for frame in frames], codec=codec)
    written = list(read_frames(out))
    assert [number(frame.image) for frame in written] == list(range(COUNT))
    assert [frame.time for frame in written] == [frame.time for frame in frames]
    assert probe(out).rate == probe(source).rate
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8, 9])
@pytest.mark.parametrize(
    ("codec", "name"),
    [("h264", "out.mp4"), ("hevc", "out.mp4"), ("hevc", "out.mov"), ("hevc", "out.mkv"), ("av1", "out.mp4")],
)
@pytest.mark.parametrize("sound", [None, "aac"])
def test_clips_of_few_frames_are_complete(tmp_path, codec, name, count, sound):
    clip = make(tmp_path / "clip.mp4", [numbered(index) for index in range(count)], sound=sound)
    times = [Fraction(index, 25) for index in range(count)]
    out = write(tmp_path / name, [numbered(index) for index in range(count)], times=times, codec=codec, audio_from=clip)
    assert numbers(out) == list(range(count))
    assert [frame.time for frame in read_frames(out)] == times


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv", "out.webm"])
def test_a_variable_rate_is_kept(tmp_path, name):
    codec = "vp9" if name.endswith("webm") else "h264"
    out = write(tmp_path / name, [numbered(index) for index in range(len(VARIABLE))], times=VARIABLE, codec=codec)
    assert numbers(out) == list(range(len(VARIABLE)))
    read = [frame.time for frame in read_frames(out)]
    if name.endswith(("mp4", "mov")):
        assert read == VARIABLE
        assert float(probe(out).duration) == pytest.approx(2 * VARIABLE[-1] - VARIABLE[-2], abs=0.001)
    else:
        assert max(abs(a - b) for a, b in zip(read, VARIABLE, strict=True)) <= Fraction(1, 1000)


@pytest.mark.parametrize("name", ["out.mp4", "out.mov", "out.mkv"])
@pytest.mark.parametrize(
    ("times", "end"),
    [
        (VARIABLE, Fraction(500, 90)),
        (VARIABLE, VARIABLE[-1] + Fraction(1, 90)),
        ([Fraction(index, 25) for index in range(12)], Fraction(4)),
        ([Fraction(7), Fraction(8)], Fraction(17, 2)),
        ([Fraction(0)], Fraction(2)),
        ([Fraction(0)], Fraction(1, 100)),
    ],
)
def test_the_last_image_ends_at_the_given_time(tmp_path, name, times, end):
    out = write(tmp_path / name, [numbered(index) for index in range(len(times))], times=times, end=end)
    frames = list(read_frames(out))
    assert [number(frame.image) for frame in frames] == list(range(len(times)))
    if name == "out.mkv":
        with av.open(str(out)) as container:
            assert container.duration / av.time_base == pytest.approx(float(end - times[0]), abs=0.002)
    else:
        assert [frame.time + times[0] for frame in frames] == times
        assert frames[-1].time + frames[-1].duration == end - times[0]
        assert probe(out).duration == end - times[0]


def test_an_end_between_ticks_leaves_other_times_exact(tmp_path):
    times = [index * Fraction(1001, 30_000) for index in range(3)]
    out = write(
        tmp_path / "out.mp4", [numbered(index) for index in range(3)], times=times, end=Fraction(99_991, 999_983)
    )
    assert [frame.time for frame in read_frames(out)] == times


def test_times_without_a_common_divisor_are_rounded_to_the_nearest_tick(tmp_path):
    times = [Fraction(0), Fraction(1, 999_983), Fraction(1, 3), Fraction(5, 7)]
    times[1] = Fraction(99_991, 999_983)
    out = write(tmp_path / "out.mp4", [numbered(index) for index in range(4)], times=times)
    read = [frame.time for frame in read_frames(out)]
    assert max(abs(a - b) for a, b in zip(read, times, strict=True)) <= Fraction(1, 90_000)


def test_times_may_begin_at_any_value(tmp_path):
    out = write(tmp_path / "out.mp4", [numbered(1), numbered(2)], times=[Fraction(7), Fraction(15, 2)])
    assert [frame.time for frame in read_frames(out)] == [0, Fraction(1, 2)]


def test_a_rate(tmp_path):
    out = write(tmp_path / "out.mp4", [numbered(index) for index in range(5)], rate=10)
    assert [frame.time for frame in read_frames(out)] == [Fraction(index, 10) for index in range(5)]
    assert probe(out).duration == Fraction(1, 2)


@pytest.mark.parametrize("size", [(63, 31), (63, 32), (64, 31), (1, 1)])
def test_odd_sizes_keep_every_pixel(tmp_path, size):
    image = numbered(0b10011010, *size)
    writer = VideoWriter(tmp_path / "out.mp4", width=size[0], height=size[1], rate=25, quality=5)
    assert writer.size == (size[0] + size[0] % 2, size[1] + size[1] % 2)
    with writer:
        writer.write(image)
    (frame,) = read_frames(tmp_path / "out.mp4")
    assert frame.image.shape[1::-1] == writer.size
    assert np.abs(frame.image[: size[1], : size[0]].astype(int) - image).mean() < 6


@pytest.mark.parametrize(
    ("codec", "name", "pixel_format"),
    [
        ("h264", "out.mp4", "yuv444p"),
        ("vp9", "out.webm", None),
        ("av1", "out.mp4", None),
        ("prores", "out.mov", None),
        ("ffv1", "out.mkv", None),
    ],
)
def test_odd_sizes_stay_odd_if_the_encoder_supports_them(tmp_path, codec, name, pixel_format):
    image = numbered(0b10011010, 75, 61)
    out = write(tmp_path / name, [image] * 2, rate=25, codec=codec, pixel_format=pixel_format)
    assert (probe(out).width, probe(out).height) == (75, 61)
    assert numbers(out) == [0b10011010] * 2


@pytest.mark.parametrize("codec", ["ffv1", "png"])
def test_lossless_codecs_lose_nothing(tmp_path, codec):
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    (frame,) = read_frames(write(tmp_path / "out.mp4", [noise], rate=25, codec=codec))
    np.testing.assert_array_equal(frame.image, noise)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 40), (20, 180, 60), (30, 50, 210)])
@pytest.mark.parametrize(("codec", "name"), [("h264", "out.mp4"), ("vp9", "out.webm"), ("mjpeg", "out.mov")])
def test_colours_and_colour_tags(tmp_path, colour, codec, name):
    out = write(tmp_path / name, [flat(colour)] * 2, rate=25, codec=codec)
    for frame in read_frames(out):
        assert np.abs(frame.image.astype(int) - colour).max() <= 3
    with av.open(str(out)) as container:
        context = container.streams.video[0].codec_context
        if codec != "mjpeg":
            assert (context.colorspace, context.color_primaries, context.color_trc) == (1, 1, 1)
            assert context.color_range == 1


def test_quality_and_options_reach_the_encoder(tmp_path):
    noise = [np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)] * 3
    fine = write(tmp_path / "fine.mp4", noise, rate=25, quality=5).stat().st_size
    coarse = write(tmp_path / "coarse.mp4", noise, rate=25, quality=45).stat().st_size
    assert coarse < fine / 2
    fast = write(tmp_path / "fast.mp4", noise, rate=25, quality=5, options={"preset": "ultrafast"})
    assert fast.stat().st_size != fine


@pytest.mark.parametrize(("width", "tree"), [(48, b"mbtree=0"), (128, b"mbtree=1"), (136, b"mbtree=0")])
def test_x264_settings_that_are_not_reproducible_are_off(tmp_path, width, tree):
    # One file in a few hundred differs with mbtree at 48 pixels, too few to test; x264 stores its settings in the file.
    out = write(tmp_path / "out.mp4", [np.zeros((16, width, 3), np.uint8)] * 2, rate=25)
    assert tree in out.read_bytes()


@pytest.mark.parametrize("name", ["out.mp4", "out.mov"])
def test_hevc_has_the_tag_that_quicktime_and_safari_play(tmp_path, name):
    out = write(tmp_path / name, [numbered(index) for index in range(3)], rate=25, codec="hevc")
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"
    assert numbers(out) == [0, 1, 2]


def test_only_opening_an_av1_encoder_silences_its_log(tmp_path, monkeypatch):
    monkeypatch.setenv("SVT_LOG", "to be restored")
    monkeypatch.delenv("SVT_LOG")
    runpy.run_path(encoders.__file__)  # what importing the module runs
    write(tmp_path / "h264.mp4", [numbered(0)], rate=25)
    assert "SVT_LOG" not in os.environ
    write(tmp_path / "av1.mp4", [numbered(0)], rate=25, codec="av1")
    assert os.environ["SVT_LOG"] == "0"


def fail_in_the_middle(target, failure):
    with VideoWriter(target, width=WIDTH, height=HEIGHT, rate=25) as writer:
        writer.write(numbered(0))
        assert len(list(target.parent.iterdir())) == 2
        raise failure


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_earlier_file_and_no_temporary_one(tmp_path, failure):
    target = tmp_path / "out.mp4"
    target.write_bytes(b"an earlier result")
    with pytest.raises(failure):
        fail_in_the_middle(target, failure)
    assert [path.name for path in tmp_path.iterdir()] == ["out.mp4"]
    assert target.read_bytes() == b"an earlier result"


def test_the_file_appears_once_it_is_complete(tmp_path):
    target = tmp_path / "new" / "out.mp4"
    with VideoWriter(target, width=WIDTH, height=HEIGHT, rate=25) as writer:
        writer.write(numbered(3))
        assert not target.exists()
    assert numbers(target) == [3]
    (tmp_path / "plain").touch()
    assert target.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_too_few_images(tmp_path):
    with pytest.raises(OutputError, match="expected 1 images; got 0"):
        write_nothing(tmp_path, rate=25)
    with pytest.raises(OutputError, match="expected 2 images; got 0"):
        write_nothing(tmp_path, times=[Fraction(0), Fraction(1)])
    assert list(tmp_path.iterdir()) == []


def write_nothing(folder, **settings):
    with VideoWriter(folder / "out.mp4", width=WIDTH, height=HEIGHT, **settings):
        pass


def test_more_images_than_times(tmp_path):
    with pytest.raises(ValueError, match="expected 1 images, one per time"):
        write(tmp_path / "out.mp4", [numbered(0)] * 2, times=[Fraction(0)])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("image", [flat((0, 0, 0), 8, 8), numbered(0).astype(float), numbered(0)[..., :1]])
def test_an_image_of_another_shape_or_dtype(tmp_path, image):
    with (
        pytest.raises(ValueError, match="expected an image"),
        VideoWriter(tmp_path / "out.mp4", width=WIDTH, height=HEIGHT, rate=25) as writer,
    ):
        writer.write(image)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"rate": 0},
        {"times": []},
        {"times": [Fraction(1), Fraction(1)]},
        {"times": [Fraction(1), Fraction(0)]},
        {"times": [Fraction(1)], "rate": 25},
        {"times": [Fraction(1)], "end": Fraction(1)},
        {"rate": 25, "end": Fraction(1)},
    ],
)
def test_invalid_times(tmp_path, settings):
    with pytest.raises(ValueError, match="expected"):
        VideoWriter(tmp_path / "out.mp4", width=WIDTH, height=HEIGHT, **settings)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("out.xyz", {}, "unknown video file extension; use one of .mp4"),
        ("out", {}, "unknown video file extension"),
        ("out.mp4", {"codec": "h265"}, "unknown codec 'h265'; expected one of h264, hevc"),
        ("out.webm", {"codec": "h264"}, "choose another codec, pixel format or container"),
        ("out.mov", {"codec": "vp9"}, "choose another codec, pixel format or container"),
        ("out.mp4", {"pixel_format": "rgb24"}, "choose another codec, pixel format or container"),
        ("out.mp4", {"codec": "png", "quality": 3}, "png has no quality setting"),
        ("out.gif", {"codec": "h264"}, "choose another codec, pixel format or container"),
        ("out.mp4", {"alpha": True}, "libx264 holds no transparency; choose vp9"),
        ("out.mp4", {"pixel_format": "no"}, "unknown pixel format 'no'"),
        ("folder.mp4", {}, "is a folder; expected a file name"),
        ("file/out.mp4", {}, "cannot be written"),
    ],
)
def test_invalid_outputs(tmp_path, name, settings, message):
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=message):
        write(tmp_path / name, [numbered(0)], rate=25, **settings)
    assert {path.name for path in tmp_path.iterdir()} == {"folder.mp4", "file"}


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a folder in which nothing can be created")
def test_a_folder_that_forbids_writing():
    with pytest.raises(OutputError, match="cannot be written"):
        write("/proc/out.mp4", [numbered(0)], rate=25)


@pytest.mark.parametrize("room", [0, 2_000, 40_000])
def test_a_full_disk(tmp_path, room):
    """A limit on the file size, which fails like a full disk."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    resource = pytest.importorskip("resource", reason="POSIX only")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
        with pytest.raises(OutputError, match=r"cannot be written .*make room"):
            write(tmp_path / "out.mkv", [noise] * 30, rate=25, codec="ffv1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def test_memory_does_not_grow_with_the_clip(tmp_path):
    """Eighty images of a megabyte each are written and read without being held in memory."""
    process = psutil.Process()
    image = flat((9, 9, 9), 640, 480)
    resident = []
    with VideoWriter(tmp_path / "out.mp4", width=640, height=480, rate=25, options={"preset": "ultrafast"}) as writer:
        for _ in range(120):
            writer.write(image)
            resident.append(process.memory_info().rss)
    for _ in read_frames(tmp_path / "out.mp4"):
        resident.append(process.memory_info().rss)
    assert resident[119] - resident[40] < 20 * image.nbytes
    assert resident[239] - resident[160] < 20 * image.nbytes
