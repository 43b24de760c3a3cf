"""Uploads are kept if they can be read and are not too much; what browsers cannot play is shown through a proxy."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import pytest

from tests.tiny import moving_square
from tokenflow.apps.uploads import Limits, check_limits
from tokenflow.apps.web.clips import describe, keep_upload, playable, thumbnail
from tokenflow.apps.web.space import Space
from tokenflow.errors import ClipError
from tokenflow.video import Video, VideoWriter, probe


def write(path: Path, frames: int = 4, **options: Any) -> Path:
    with VideoWriter(path, width=64, height=48, rate=10, **options) as writer:
        for image in moving_square(frames, 48, 64):
            writer.write(image)
    return path


def test_an_upload_is_kept_under_its_name_and_content(tmp_path: Path, space: Space) -> None:
    upload = write(tmp_path / "Holiday.MP4".lower())
    kept = keep_upload(upload, space)
    assert kept.parent == space.uploads
    assert kept.name.startswith("holiday-")
    assert kept.read_bytes() == upload.read_bytes()
    assert keep_upload(upload, space) == kept


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(megabytes=0), "more than 0 MB"),
        (Limits(seconds=0), "longer than 0 s"),
        (Limits(pixels=64 * 48 - 1), "64×48, more than 3071 pixels"),
    ],
)
def test_an_upload_beyond_a_limit_is_refused(limits: Limits, message: str, tmp_path: Path, space: Space) -> None:
    upload = write(tmp_path / "clip.mp4")
    with pytest.raises(ClipError, match=message):
        keep_upload(upload, replace(space, limits=limits))
    assert not space.uploads.exists()


def test_what_is_not_a_clip_is_refused(tmp_path: Path, space: Space) -> None:
    upload = tmp_path / "notes.mp4"
    upload.write_text("not a video")
    with pytest.raises(ClipError):
        keep_upload(upload, space)


def test_a_playlist_of_other_files_is_refused(tmp_path: Path, space: Space) -> None:
    secret, playlist = write(tmp_path / "secret" / "clip.mp4"), tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n")
    with pytest.raises(ClipError, match=r"list\.m3u8 is a playlist; upload the clip itself"):
        keep_upload(playlist, space)
    assert not space.uploads.exists()


def test_a_clip_that_browsers_play_is_shown_itself(tmp_path: Path, space: Space) -> None:
    clip = write(tmp_path / "clip.mp4")
    assert playable(clip, space) == clip


@pytest.mark.parametrize(
    ("name", "codec"), [("clip.mp4", "hevc"), ("clip.mov", "prores"), ("clip.mkv", "ffv1"), ("clip.mov", "h264")]
)
def test_a_clip_that_browsers_do_not_play_is_shown_through_a_proxy(
    name: str, codec: str, tmp_path: Path, space: Space
) -> None:
    clip = write(tmp_path / name, codec=codec)
    proxy = playable(clip, space)
    shown, meant = probe(proxy), Video.read(clip)
    assert (shown.codec, proxy.suffix, proxy.parent) == ("h264", ".mp4", space.proxies)
    assert (shown.width, shown.height) == meant.size
    assert Video.read(proxy).times == meant.times
    written = proxy.stat().st_mtime_ns
    assert playable(clip, space).stat().st_mtime_ns == written


def test_a_clip_of_ten_bits_is_shown_through_a_proxy_of_eight(tmp_path: Path, space: Space) -> None:
    clip = tmp_path / "deep.mp4"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("libx264", 10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p10le"
        for image in moving_square(4, 48, 64):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode())
    assert probe(clip).profile == "High 10"
    assert probe(playable(clip, space)).profile == "High"


def test_a_clip_is_described(tmp_path: Path) -> None:
    info = check_limits(write(tmp_path / "clip.mp4"), Limits())
    assert describe(info) == "about 4 frames, 64×48, 10 frames per second, 0.4 s"


def test_a_thumbnail_is_small_and_shows_the_clip(tmp_path: Path) -> None:
    image = thumbnail(write(tmp_path / "clip.mp4"))
    assert image.size == (64, 48)
