"""Streams that begin without a key frame, and time stamps that fall back or leap: frames and sound stay together."""

from fractions import Fraction

import av
import pytest

from tests.video.flash import beeps, flashes, make_flashes
from tests.video.making import make, number, numbered
from tokenflow.errors import TokenflowWarning
from tokenflow.video import Video, read_frames

TOLERANCE = 0.006
"""Seconds; encoders smear the beginning of a beep."""


def copy_packets(source, target, change=lambda packet: packet):
    """Copy a file packet by packet; `change` may move them in time, or leave them out by returning None."""
    with av.open(str(source)) as container, av.open(str(target), "w") as output:
        copies = [output.add_stream_from_template(stream) for stream in container.streams]
        for packet in container.demux():
            if packet.size and (changed := change(packet)) is not None:
                changed.stream = copies[packet.stream_index]
                output.mux(changed)
    return target


def without_first_picture():
    videos = iter(range(1000))
    return lambda packet: packet if packet.stream.type == "audio" or next(videos) else None


def moved(seconds, after):
    """Move what comes after a time."""

    def change(packet):
        if packet.pts * packet.time_base >= after:
            packet.pts += round(seconds / packet.time_base)
            packet.dts += round(seconds / packet.time_base)
        return packet

    return change


def check_written(clip, out, expected, **part):
    """Write a part of a clip, and compare where it flashes and where it beeps."""
    Video.read(clip, **part).write(out)
    assert flashes(out) == pytest.approx(expected, abs=0.03)
    assert beeps(out) == pytest.approx(flashes(out), abs=TOLERANCE)


@pytest.mark.parametrize("out", ["out.mp4", "out.mkv"])
def test_sound_is_timed_from_the_first_picture_that_is_shown(tmp_path, out):
    clip = copy_packets(make_flashes(tmp_path / "a.mkv", reordered=0), tmp_path / "clip.mkv", without_first_picture())
    check_written(clip, tmp_path / out, [0, 1, 2])
    check_written(clip, tmp_path / out, [0, 1], start=1.0)


def test_sound_of_a_transport_stream_that_was_cut_in_the_middle(tmp_path):
    content = make_flashes(tmp_path / "a.ts").read_bytes()
    (tmp_path / "clip.ts").write_bytes(content[int(len(content) * 0.15) // 188 * 188 :])
    check_written(tmp_path / "clip.ts", tmp_path / "out.mp4", [0, 1, 2])


@pytest.mark.filterwarnings("ignore:.*a packet is incomplete")  # FFmpeg cannot tell a join from a loss
@pytest.mark.parametrize("suffix", ["ts", "mkv"])
def test_times_go_on_where_two_recordings_are_joined(tmp_path, suffix):
    content = make_flashes(tmp_path / f"a.{suffix}", at=(1,), seconds=2).read_bytes()
    clip = tmp_path / f"clip.{suffix}"
    clip.write_bytes(content * 2)
    check_written(clip, tmp_path / "out.mp4", [1, 3])
    check_written(clip, tmp_path / "out.mp4", [0.08], start=2.9)
    durations = {frame.duration for frame in read_frames(clip)}
    assert min(durations) >= Fraction(1, 25)
    assert max(durations) <= Fraction(3, 50)  # a little more at the join, where the sound of the first is longer


@pytest.mark.filterwarnings("ignore:.*a packet is incomplete")
@pytest.mark.parametrize("count", [2, 3, 30])
@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_times_go_on_without_sound(tmp_path, suffix, count):
    content = make(tmp_path / f"a.{suffix}", [numbered(index) for index in range(count)]).read_bytes()
    (tmp_path / f"clip.{suffix}").write_bytes(content * 2)
    frames = list(read_frames(tmp_path / f"clip.{suffix}"))
    assert [number(frame.image) for frame in frames] == list(range(count)) * 2
    assert [frame.time for frame in frames] == [Fraction(index, 25) for index in range(2 * count)]


@pytest.mark.parametrize(("suffix", "seconds"), [("ts", 100), ("mkv", 4000)])
def test_times_go_on_at_a_leap(tmp_path, suffix, seconds):
    source = make_flashes(tmp_path / f"a.{suffix}", reordered=0)
    check_written(copy_packets(source, tmp_path / f"b.{suffix}", moved(seconds, 1.9)), tmp_path / "out.mp4", [1, 2, 3])


def test_a_pause_is_kept(tmp_path):
    clip = copy_packets(make_flashes(tmp_path / "a.mkv", reordered=0), tmp_path / "b.mkv", moved(5, 1.9))
    check_written(clip, tmp_path / "out.mp4", [1, 7, 8])


def test_a_frame_that_is_shown_for_very_long_is_told(tmp_path):
    clip = make(tmp_path / "clip.mp4", [numbered(0), numbered(1)], times=[Fraction(0), Fraction(3600)])
    with pytest.warns(TokenflowWarning, match=r"clip\.mp4 shows one frame for 3600 s, at 0\.00 s"):
        assert [frame.time for frame in read_frames(clip)] == [0, 3600]
