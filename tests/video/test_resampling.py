from fractions import Fraction

import pytest

from tests.video.making import make, number, numbered
from tokenflow.video import Video, probe, read_frames
from tokenflow.video.resampling import exact_rate

VARIABLE = [Fraction(tick, 100) for tick in (0, 4, 50, 54, 90)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """25 frames of 25 fps."""
    return make(tmp_path_factory.mktemp("clip") / "clip.mp4", [numbered(index) for index in range(25)], sound="aac")


@pytest.mark.parametrize(("rate", "expected"), [(12.5, range(0, 24, 2)), (10, [0, 2, 5, 7, 10, 12, 15, 17, 20, 22])])
def test_a_lower_rate_takes_the_frame_that_is_shown_at_each_time(clip, rate, expected):
    frames = list(read_frames(clip, rate=rate))
    assert [number(frame.image) for frame in frames] == list(expected)
    assert [frame.time for frame in frames] == [index / Fraction(rate) for index in range(len(frames))]
    assert {frame.duration for frame in frames} == {1 / Fraction(rate)}


def test_a_higher_rate_repeats_frames(clip):
    frames = list(read_frames(clip, rate=60, frames=13))
    assert [number(frame.image) for frame in frames] == [index * 25 // 60 for index in range(13)]


def test_the_own_rate_changes_nothing(clip):
    assert [number(frame.image) for frame in read_frames(clip, rate=25)] == list(range(25))


def test_a_variable_rate_becomes_constant(tmp_path):
    images = [numbered(index) for index in range(5)]
    clip = make(tmp_path / "clip.mp4", images, times=VARIABLE, end=Fraction(1))
    frames = list(read_frames(clip, rate=10))
    assert [number(frame.image) for frame in frames] == [0, 1, 1, 1, 1, 2, 3, 3, 3, 4]
    assert [frame.time for frame in frames] == [Fraction(index, 10) for index in range(10)]


def test_a_part_of_a_resampled_clip(clip):
    frames = list(read_frames(clip, rate=10, start=0.35, every=2, frames=2))
    assert [number(frame.image) for frame in frames] == [10, 15]
    assert [frame.source_time for frame in frames] == [Fraction(2, 5), Fraction(3, 5)]


def test_a_video_says_its_new_rate_and_keeps_its_sound(clip, tmp_path):
    video = Video.read(clip, rate=10)
    assert (video.rate, len(video), video.end) == (10, 10, 1)
    video.write(tmp_path / "out.mp4")
    assert probe(tmp_path / "out.mp4").rate == 10
    assert probe(tmp_path / "out.mp4").has_audio


def test_one_image_is_shown_for_one_frame(tmp_path):
    clip = make(tmp_path / "a.apng", [numbered(3)], codec="apng", pixel_format="rgb24")
    (frame,) = read_frames(clip, rate=2)
    assert (number(frame.image), frame.duration) == (3, Fraction(1, 2))


@pytest.mark.parametrize(
    ("rate", "exact"),
    [
        (25, Fraction(25)),
        (1, Fraction(1)),
        (30, Fraction(30)),
        (23.976, Fraction(24_000, 1001)),
        (59.94, Fraction(60_000, 1001)),
        (12.5, Fraction(25, 2)),
        (Fraction(2997, 100), Fraction(2997, 100)),
    ],
)
def test_exact_rates(rate, exact):
    assert exact_rate(rate) == exact


@pytest.mark.parametrize("rate", [0, -1, 0.0001, 5000, float("nan"), float("inf")])
def test_an_impossible_rate(clip, rate):
    with pytest.raises(ValueError, match=r"expected a rate from 0\.001 to 1000 frames per second"):
        read_frames(clip, rate=rate)
