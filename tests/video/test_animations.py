"""GIF, WebP and APNG as results."""

from fractions import Fraction

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tests.video.making import make, number, numbered
from tokenflow.errors import EncodingError
from tokenflow.video import Video, VideoWriter, probe, read_frames

DELAYS = [40, 100, 40, 200, 1020]
"""Milliseconds."""


def variable_video(count=5):
    begins = [Fraction(int(end), 1000) for end in np.cumsum([0, *DELAYS])]
    frames = np.stack([numbered(37 * index + 5) for index in range(count)])
    return Video(frames, times=begins[:count], end=begins[count])


@pytest.mark.parametrize("suffix", ["gif", "webp", "apng"])
def test_an_animation_has_every_frame_at_its_time_and_plays_forever(tmp_path, suffix):
    video = variable_video()
    video.write(tmp_path / f"out.{suffix}")
    written = Video.read(tmp_path / f"out.{suffix}")
    assert [number(image) for image in written.frames] == [number(image) for image in video.frames]
    assert (written.times, written.end) == (video.times, video.end)
    assert np.abs(written.frames.astype(int) - video.frames).mean() < 3
    with Image.open(tmp_path / f"out.{suffix}") as image:
        assert image.info["loop"] == 0
        shown = [each.load() and each.info["duration"] for each in ImageSequence.Iterator(image)]
    assert shown == DELAYS


@pytest.mark.parametrize("suffix", ["gif", "webp", "apng"])
def test_an_animation_of_one_frame(tmp_path, suffix):
    variable_video(1).write(tmp_path / f"out.{suffix}")
    (frame,) = read_frames(tmp_path / f"out.{suffix}")
    assert number(frame.image) == 5


@pytest.mark.parametrize("suffix", ["gif", "webp", "apng"])
@pytest.mark.parametrize("rate", [Fraction(30_000, 1001), Fraction(12)])
def test_times_are_rounded_without_adding_up(tmp_path, suffix, rate):
    frames = np.stack([numbered(index) for index in range(40)])
    Video(frames, rate=rate).write(tmp_path / f"out.{suffix}")
    written = Video.read(tmp_path / f"out.{suffix}")
    assert len(written) == 40
    assert max(abs(time - index / rate) for index, time in enumerate(written.times)) <= Fraction(1, 100)


def test_a_gif_has_its_own_palette_for_each_frame(tmp_path):
    ramp = np.arange(64, dtype=np.uint8)[None, :, None] * 4
    red, blue = (np.broadcast_to(ramp, (32, 64, 3)) * np.array(mask, np.uint8) for mask in ((1, 0, 0), (0, 0, 1)))
    Video(np.stack([red, blue]), rate=10).write(tmp_path / "out.gif")
    written = Video.read(tmp_path / "out.gif").frames
    assert np.abs(written.astype(int) - np.stack([red, blue])).mean() < 2


def test_a_gif_shows_at_most_50_frames_per_second(tmp_path):
    with pytest.raises(EncodingError, match=r"50 frames per second at most; set clip\.rate to 50"):
        write_fast(tmp_path / "out.gif")
    assert list(tmp_path.iterdir()) == []


def write_fast(path):
    with VideoWriter(path, width=64, height=32, rate=60) as writer:
        writer.write(numbered(1))


def test_the_sound_of_a_clip_is_left_out(tmp_path):
    clip = make(tmp_path / "clip.mp4", [numbered(index) for index in range(4)], sound="aac")
    Video.read(clip).write(tmp_path / "out.webp")
    assert not probe(tmp_path / "out.webp").has_audio
