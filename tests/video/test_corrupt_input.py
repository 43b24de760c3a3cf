import socketserver
import warnings
from contextlib import suppress
from functools import cache
from itertools import islice, pairwise
from threading import Thread

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.video.heif import heif_of_tiles
from tests.video.making import HEIGHT, WIDTH, make, number, numbered
from tokenflow.errors import ClipError, OutputError, TokenflowWarning
from tokenflow.video import VideoWriter, decoding, probe, read_frames

COUNT = 60


def read(path):
    return list(read_frames(path))


@pytest.mark.parametrize("content", [b"", b"a text\n" * 200, b"\0" * 5000, b"RIFF"])
def test_files_that_are_not_videos(tmp_path, content):
    (tmp_path / "clip.mp4").write_bytes(content)
    for function in (probe, read):
        with pytest.raises(ClipError, match=r"clip\.mp4 .*expected a video"):
            function(tmp_path / "clip.mp4")


@pytest.mark.parametrize("suffix", ["txt", "nfo", "ans", "bin", "idf"])
def test_a_text_is_not_a_video_of_a_terminal(tmp_path, suffix):
    path = tmp_path / f"clip.{suffix}"
    path.write_text("a text\n" * 200, encoding="utf-8")
    for function in (probe, read):
        with pytest.raises(ClipError, match=rf"clip\.{suffix} cannot be read \(.*expected a video file"):
            function(path)


@pytest.mark.parametrize(
    "content",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3,\nhttp://{place}/clip.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile http://{place}/clip.ts\n",
    ],
)
def test_a_playlist_cannot_access_the_network(tmp_path, content):
    callers = []

    class Server(socketserver.BaseRequestHandler):
        def handle(self):
            callers.append(self.client_address)

    with socketserver.TCPServer(("127.0.0.1", 0), Server) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        place = "{}:{}".format(*server.server_address)
        (tmp_path / "clip.m3u8").write_text(content.format(place=place))
        with pytest.raises(ClipError):
            read(tmp_path / "clip.m3u8")
        server.shutdown()
    assert callers == []


@pytest.mark.parametrize("name", ["photo.heic", "photo.mp4"])
def test_an_image_of_tiles_is_refused_instead_of_reading_one_of_them(tmp_path, name):
    (tmp_path / name).write_bytes(heif_of_tiles([numbered(index, 64, 64) for index in range(1, 5)], columns=2))
    with av.open(str(tmp_path / name)) as container:
        assert len(container.streams.video) == 4
    for function in (probe, read):
        with pytest.raises(ClipError, match="is an image of 4 tiles, which cannot be read; save it as PNG or JPEG"):
            function(tmp_path / name)


def test_a_file_with_only_audio(tmp_path):
    make(tmp_path / "clip.mkv", [numbered(0)] * 25, sound="aac")
    sound = tmp_path / "sound.m4a"
    with av.open(str(tmp_path / "clip.mkv")) as source, av.open(str(sound), "w", format="mp4") as output:
        copy = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    with pytest.raises(ClipError, match=r"no video stream that can be decoded \(it holds: audio\)"):
        read(sound)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_a_file_without_frames(tmp_path, name):
    with av.open(str(tmp_path / name), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        output.start_encoding()
    for function in (probe, read):
        with pytest.raises(ClipError):
            function(tmp_path / name)


def test_no_permission(tmp_path, monkeypatch):
    clip = make(tmp_path / "clip.mp4", [numbered(0)])

    def refuse(*_, **__):
        raise av.error.PermissionError(13, "Permission denied")

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(ClipError, match=r"cannot be read \(Permission denied\)"):
        probe(clip)


def grainy(index):
    """A numbered image with noise, which compresses badly."""
    grain = np.random.default_rng(index).integers(-20, 20, (HEIGHT, WIDTH, 1))
    return (numbered(index) + grain).astype(np.uint8)


TRUNCATED = [
    ("clip.mp4", {"container_options": {"movflags": "faststart"}}),
    ("clip.mkv", {}),
    ("clip.ts", {}),
    ("clip.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
    ("clip.gif", {"codec": "gif", "pixel_format": "rgb8"}),
]


@pytest.mark.parametrize("share", [0.5, 0.8])
@pytest.mark.parametrize(("name", "arguments"), TRUNCATED)
def test_a_truncated_clip_gives_the_frames_that_can_be_decoded(tmp_path, name, arguments, share):
    clip = make(tmp_path / name, [grainy(index) for index in range(COUNT)], **arguments)
    clip.write_bytes(clip.read_bytes()[: int(clip.stat().st_size * share)])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frames = read(clip)
    assert 1 < len(frames) < COUNT
    for frame in frames[:-1]:
        assert number(frame.image) == frame.time * 25
    messages = [str(warning.message) for warning in caught if warning.category is TokenflowWarning]
    assert all("damaged or truncated" in message for message in messages)
    assert len(messages) == 1 or (not messages and not name.endswith(("mp4", "mkv")))  # the others may end anywhere


def test_a_clip_truncated_before_its_index_cannot_be_read(tmp_path):
    clip = make(tmp_path / "clip.mp4", [numbered(index) for index in range(COUNT)])
    clip.write_bytes(clip.read_bytes()[:-300])
    with pytest.raises(ClipError, match="cannot be read"):
        read(clip)


def test_no_warning_if_the_requested_part_is_intact(tmp_path):
    clip = make(
        tmp_path / "clip.mp4",
        [numbered(index) for index in range(COUNT)],
        container_options={"movflags": "faststart"},
    )
    clip.write_bytes(clip.read_bytes()[:-200])
    assert [number(frame.image) for frame in read_frames(clip, frames=5)] == list(range(5))


def test_a_clip_that_changes_size_keeps_the_first_size(tmp_path):
    parts = [make(tmp_path / f"{size}.ts", [numbered(5, size, size)] * 4) for size in (32, 64)]
    (tmp_path / "both.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.warns(TokenflowWarning, match="a packet is incomplete"):
        frames = read(tmp_path / "both.ts")
    assert [number(frame.image) for frame in frames] == [5] * 8
    assert {frame.image.shape for frame in frames} == {(32, 32, 3)}


def test_a_header_that_asks_for_too_much_memory(tmp_path, monkeypatch):
    clip = make(tmp_path / "clip.mp4", [numbered(0)] * 3)
    assert len(read(clip)) == 3
    monkeypatch.setattr(decoding, "_MAX_PIXELS", HEIGHT * WIDTH // 2)
    with pytest.raises(ClipError, match="no frames that can be decoded"):
        read(clip)


@cache
def samples(folder):
    """Small clips of many formats: file name to bytes."""
    images = [numbered(index) for index in range(6)]
    kinds = {
        "a.mp4": {"sound": "aac", "rotation": 90, "container_options": {"movflags": "faststart"}},
        "b.mkv": {"codec": "libx265", "options": {"x265-params": "log-level=none"}, "pixel_format": "yuv420p10le"},
        "c.webm": {"codec": "libvpx-vp9"},
        "d.avi": {"codec": "mpeg4", "sound": "pcm_s16le"},
        "e.gif": {"codec": "gif", "pixel_format": "rgb8"},
        "f.ts": {"codec": "mpeg2video", "options": {"flags": "+ildct+ilme"}},
        "g.mov": {"codec": "prores_ks", "pixel_format": "yuv422p10le"},
        "h.mp4": {"codec": "libsvtav1"},
    }
    made = {name: make(folder / name, images, **arguments).read_bytes() for name, arguments in kinds.items()}
    Image.fromarray(images[0]).save(folder / "i.png")
    Image.fromarray(images[0]).save(folder / "j.jpg")
    first, *rest = (Image.fromarray(image) for image in images)
    first.save(folder / "k.webp", save_all=True, append_images=rest, duration=40)
    return made | {name: (folder / name).read_bytes() for name in ("i.png", "j.jpg", "k.webp")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("corrupt")


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_corrupt_file_gives_frames_or_a_clip_error(folder, data):
    files = samples(folder)
    name = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[name])
    for _ in range(data.draw(st.integers(0, 8))):
        # half of the corrupted bytes are in the header, where they matter most
        reach = data.draw(st.sampled_from([min(len(content), 400), len(content)]))
        content[data.draw(st.integers(0, reach - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    damaged = folder / f"damaged_{name}"
    damaged.write_bytes(content)
    start = data.draw(st.sampled_from([0, 0.1, 2.5]))
    with warnings.catch_warnings(), suppress(ClipError):
        warnings.simplefilter("ignore", TokenflowWarning)
        times = [frame.time for frame in islice(read_frames(damaged, start=start), 30)]
        assert all(before < after for before, after in pairwise(times))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_audio_of_a_corrupt_file_is_copied_or_raises_our_errors(folder, data):
    files = samples(folder)
    name = data.draw(st.sampled_from(["a.mp4", "d.avi"]))
    content = bytearray(files[name])
    for _ in range(data.draw(st.integers(0, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = folder / f"sound_{name}"
    damaged.write_bytes(content)
    target = folder / data.draw(st.sampled_from(["written.mp4", "written.mkv", "written.mov"]))
    target.unlink(missing_ok=True)
    with warnings.catch_warnings(), suppress(ClipError, OutputError):
        warnings.simplefilter("ignore", TokenflowWarning)
        with VideoWriter(target, width=WIDTH, height=HEIGHT, rate=25, audio_from=damaged) as writer:
            for index in range(6):
                writer.write(numbered(index))
        assert [number(frame.image) for frame in read_frames(target)] == list(range(6))
    assert not list(folder.glob(".written*"))
