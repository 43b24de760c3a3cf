"""A video as a value: what it holds, what it reads when, and what it writes."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.tiny import moving_square
from tests.video.making import make, write_pngs
from tokenflow.errors import ClipError, ClipNotFoundError
from tokenflow.video import Sound, Video, probe, read_frames, video

FRAMES = moving_square(6)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Six frames at 10 per second with sound, without loss."""
    make(tmp_path / "clip.mkv", FRAMES, codec="ffv1", rate=10, sound="aac")
    return tmp_path / "clip.mkv"


def test_a_file_is_read_as_the_frames_times_and_sound_it_holds(path: Path) -> None:
    clip = Video.read(path)
    decoded = list(read_frames(path))
    assert clip.size == (24, 16)
    assert len(clip) == 6
    assert np.array_equal(clip.frames, np.stack([frame.image for frame in decoded]))
    assert clip.times == tuple(frame.source_time for frame in decoded)
    assert clip.end == decoded[-1].source_time + decoded[-1].duration
    assert clip.rate == 10
    assert clip.sound == Sound(path, Fraction(0))


def test_a_part_keeps_the_clips_clock_and_takes_its_sound_from_there(path: Path) -> None:
    part = Video.read(path, start=0.2, frames=2, every=2)
    assert len(part) == 2
    assert [float(time) for time in part.times] == pytest.approx([0.2, 0.4])
    assert part.rate == 5
    assert part.sound == Sound(path, part.times[0])


def test_where_the_sound_starts_is_known_from_the_first_frame(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []
    monkeypatch.setattr(video, "read_frames", lambda *a, **k: asked.append(k) or read_frames(*a, **k))
    clip = Video.read(path, start=0.2, every=2)
    asked.clear()
    assert clip.sound == clip.sound == Sound(path, Fraction(1, 5))
    assert [(each["start"], each["frames"]) for each in asked] == [(0.2, 1)]


def test_frames_are_decoded_only_when_they_are_asked_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(video, "read_frames", lambda *a, **k: opened.append(a[0]) or read_frames(*a, **k))
    clip = Video.read(path)
    opened.clear()  # the arguments were checked
    assert clip.size == (24, 16)
    assert opened == []
    for _ in range(3):
        assert clip.times[0] == 0
    assert len(opened) == 1
    for _ in range(3):
        assert clip.frames.shape == (6, 16, 24, 3)
    assert len(opened) == 2


def test_a_folder_of_images_and_an_image_are_clips(tmp_path: Path) -> None:
    write_pngs(tmp_path / "images", FRAMES)
    assert np.array_equal(Video.read(tmp_path / "images").frames, FRAMES)
    one = Video.read(tmp_path / "images" / "frame_00002.png")
    assert np.array_equal(one.frames, FRAMES[2:3])
    assert one.sound is None


def test_what_is_wrong_with_a_clip_is_said_when_it_is_opened(tmp_path: Path) -> None:
    with pytest.raises(ClipNotFoundError, match="there is no clip"):
        Video.read(tmp_path / "none.mp4")
    (tmp_path / "text.mp4").write_text("text")
    with pytest.raises(ClipError):
        Video.read(tmp_path / "text.mp4")
    with pytest.raises(ValueError, match="every >= 1"):
        Video.read(tmp_path / "none.mp4", every=0)


def test_frames_in_memory_are_shown_at_their_rate_or_times() -> None:
    assert Video(FRAMES, rate=10).times == tuple(Fraction(index, 10) for index in range(6))
    assert Video(FRAMES, rate=10).end == Fraction(6, 10)
    assert Video(FRAMES, rate=Fraction(24000, 1001)).rate == Fraction(24000, 1001)
    uneven = [Fraction(0), Fraction(1), Fraction(3), Fraction(4), Fraction(5), Fraction(7)]
    assert Video(FRAMES, times=uneven).end == 9  # the last is shown as long as the one before
    assert [frame.duration for frame in Video(FRAMES, times=uneven)] == [1, 2, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("frames", "timing", "message"),
    [
        (FRAMES, {"rate": "24"}, "rate"),
        (FRAMES, {"rate": 1e-9}, "rate"),
        (FRAMES, {"rate": float("nan")}, "rate"),
        (FRAMES, {"times": [float("nan")] * len(FRAMES)}, "times in seconds"),
        (FRAMES, {"times": [float("inf")] * len(FRAMES)}, "times in seconds"),
        ([np.zeros((2, 2, 3)), np.zeros((3, 2, 3))], {"rate": 24}, "all of one size"),
    ],
)
def test_what_is_no_video_is_refused(frames: object, timing: dict[str, Any], message: str) -> None:
    with pytest.raises(ClipError, match=message):
        Video(frames, **timing)


def test_tensors_of_half_precision_and_with_gradients_are_videos() -> None:
    images = torch.rand(2, 4, 6, 3)
    assert np.array_equal(Video(images.requires_grad_(), rate=1).frames, Video(images.detach(), rate=1).frames)
    halves = images.detach().bfloat16()
    assert np.array_equal(Video(halves, rate=1).frames, Video(halves.float(), rate=1).frames)


def test_what_is_written_is_read_back_with_its_times_and_sound(path: Path, tmp_path: Path) -> None:
    clip = Video.read(path)
    written = tmp_path / "copy.mkv"
    Video(255 - clip.frames, times=clip.times, end=clip.end, sound=clip.sound).write(written, codec="ffv1")
    again = Video.read(written)
    assert np.array_equal(again.frames, 255 - clip.frames)
    assert again.times == clip.times
    assert probe(written).has_audio


def test_the_digest_changes_with_a_pixel_a_time_and_a_byte_of_the_file(path: Path) -> None:
    changed = FRAMES.copy()
    changed[3, 2, 1, 0] ^= 1
    digests = [Video(FRAMES, rate=10).digest(), Video(changed, rate=10).digest(), Video(FRAMES, rate=12).digest()]
    assert len(set(digests)) == 3
    assert Video(FRAMES.copy(), rate=10).digest() == digests[0]
    before = Video.read(path).digest()
    path.write_bytes(path.read_bytes() + b"\0")
    assert Video.read(path).digest() != before
