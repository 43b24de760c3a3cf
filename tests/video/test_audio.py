from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition

from tests.video.flash import beeps, flashes, make_flashes
from tests.video.making import make, numbered, sound_of, write_pngs
from tokenflow.errors import ClipError, ClipNotFoundError, TokenflowWarning
from tokenflow.video import Video, VideoWriter, probe, read_frames

COUNT = 100
"""Images, at 25 fps."""

REACH = 1200
"""Samples to either side within which `delay` searches."""


def clip_with(tmp_path, sound, name="clip.mp4", **settings):
    return make(tmp_path / name, [numbered(index) for index in range(COUNT)], sound=sound, **settings)


def edit(clip, out, codec="h264", **part):
    """Read a part of a clip and write it with its audio, as an edit does."""
    frames = list(read_frames(clip, **part))
    height, width, _ = frames[0].image.shape
    with VideoWriter(
        out,
        width=width,
        height=height,
        times=[frame.time for frame in frames],
        audio_from=clip,
        audio_start=frames[0].source_time,
        codec=codec,
    ) as writer:
        for frame in frames:
            writer.write(frame.image)
    return out


def samples(path, at, count=4096):
    """The samples from `at` on, in seconds from the first frame."""
    with av.open(str(path)) as container:
        first_frame = next(container.decode(video=0))
        container.seek(0)
        frames = list(container.decode(audio=0))
    begin = frames[0].pts * frames[0].time_base - first_frame.pts * first_frame.time_base
    signal = np.concatenate([_first_channel(frame) for frame in frames])
    first = round((Fraction(at).limit_denominator(1000) - begin) * 48_000)
    assert first >= 0
    return signal[first : first + count]


def _first_channel(frame):
    planar = frame.format.is_planar
    return frame.to_ndarray()[0, :: 1 if planar else frame.layout.nb_channels].astype(float)


def delay(path, at, clip, clip_at):
    """Seconds by which the audio of one file lags behind that of another, and their correlation."""
    part, reference = samples(path, at), samples(clip, clip_at - REACH / 48_000, 4096 + 2 * REACH)
    correlations = [np.corrcoef(part, reference[lag : lag + 4096])[0, 1] for lag in range(0, 2 * REACH, 4)]
    return (REACH - 4 * int(np.argmax(correlations))) / 48_000, max(correlations)


def length(path):
    with av.open(str(path)) as container:
        return sum(frame.samples for frame in container.decode(audio=0)) / 48_000


@pytest.mark.parametrize(
    ("sound", "name", "out", "codec"),
    [
        ("aac", "clip.mp4", "out.mp4", "h264"),
        ("aac", "clip.mkv", "out.mp4", "h264"),
        ("aac", "clip.mp4", "out.mkv", "h264"),
        ("libmp3lame", "clip.mp4", "out.mp4", "h264"),
        ("libopus", "clip.mkv", "out.mp4", "h264"),
        ("libopus", "clip.mkv", "out.webm", "vp9"),
        ("flac", "clip.mkv", "out.mp4", "h264"),
        ("pcm_s16le", "clip.mov", "out.mov", "h264"),
    ],
)
def test_audio_is_copied_bit_for_bit(tmp_path, sound, name, out, codec):
    clip = clip_with(tmp_path, sound, name)
    stored, copied = sound_of(clip), sound_of(edit(clip, tmp_path / out, codec))
    assert [data for _, data in copied] == [data for _, data in stored]
    begin = copied[0][0] - stored[0][0]
    with av.open(str(tmp_path / out)) as container:
        begin -= container.streams.video[0].start_time * container.streams.video[0].time_base
    assert abs(begin) <= Fraction(1, 1000)


def test_audio_from_a_transport_stream_is_copied(tmp_path):
    clip = clip_with(tmp_path, "aac", "clip.ts")
    copied = sound_of(edit(clip, tmp_path / "out.mp4"))
    stored = sound_of(clip)
    header = 7  # of ADTS, which MP4 keeps elsewhere
    assert [data for _, data in copied] == [data[header:] for _, data in stored]


@pytest.mark.parametrize("start", [0.4, 1.0, 3.2])
@pytest.mark.parametrize(
    ("sound", "name", "out"),
    [
        ("aac", "clip.mp4", "out.mp4"),
        ("aac", "clip.ts", "out.mp4"),
        ("pcm_s16le", "clip.mkv", "out.mov"),
        ("libopus", "clip.mkv", "out.mkv"),
    ],
)
def test_audio_is_trimmed_to_the_part_and_in_sync(tmp_path, start, sound, name, out):
    clip = clip_with(tmp_path, sound, name)
    written = edit(clip, tmp_path / out, start=start, frames=10)
    assert length(written) == pytest.approx(10 / 25, abs=0.05)
    lag, correlation = delay(written, 0.2, clip, start + 0.2)
    assert abs(lag) <= 0.001
    assert correlation > 0.98


@pytest.mark.parametrize("start", [0, 0.4])
@pytest.mark.parametrize(
    ("sound", "name", "out", "codec", "expected"),
    [
        ("aac", "clip.mp4", "out.webm", "vp9", "opus"),
        ("libopus", "clip.mkv", "out.mov", "h264", "aac"),
        ("pcm_u8", "clip.mkv", "out.mp4", "h264", "aac"),
    ],
)
def test_audio_that_cannot_be_copied_is_encoded_again(tmp_path, start, sound, name, out, codec, expected):
    clip = clip_with(tmp_path, sound, name)
    written = edit(clip, tmp_path / out, codec, start=start)
    with av.open(str(written)) as container:
        assert container.streams.audio[0].codec_context.name.removeprefix("lib") == expected
    assert length(written) == pytest.approx(COUNT / 25 - start, abs=0.05)
    for time in (0.2, 1.5):
        lag, correlation = delay(written, time, clip, start + time)
        assert abs(lag) <= 0.001
        assert correlation > 0.9


@pytest.mark.parametrize(
    ("name", "codec"), [("clip.avi", "mpeg4"), ("clip.mkv", "libx264"), ("clip.mxf", "mpeg2video")]
)
def test_audio_without_a_channel_layout_is_encoded_again_if_it_cannot_be_copied(tmp_path, name, codec):
    """MP4 refuses to hold it, but reports that only at the end."""
    clip = clip_with(tmp_path, "pcm_s16le", name, layout="stereo", codec=codec)
    written = edit(clip, tmp_path / "out.mp4")
    with av.open(str(written)) as container:
        sound = container.streams.audio[0]
        assert (sound.codec_context.name, sound.layout.name) == ("aac", "stereo")
    lag, correlation = delay(written, 0.2, clip, 0.2)
    assert abs(lag) <= 0.001
    assert correlation > 0.9


def test_a_clip_without_audio_gives_an_output_without_audio(tmp_path):
    out = edit(clip_with(tmp_path, None), tmp_path / "out.mp4")
    assert not probe(out).has_audio


def test_audio_from_a_clip_that_cannot_be_read(tmp_path):
    (tmp_path / "clip.mp4").write_text("no clip")
    with pytest.raises(ClipError, match="cannot be read"):
        write_with_audio(tmp_path / "out.mp4", tmp_path / "clip.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_audio_from_a_missing_clip(tmp_path):
    with pytest.raises(ClipNotFoundError):
        write_with_audio(tmp_path / "out.mp4", tmp_path / "no.mp4")
    assert list(tmp_path.iterdir()) == []


def test_images_have_no_audio(tmp_path):
    write_pngs(tmp_path / "frames", [numbered(0)])
    write_with_audio(tmp_path / "out.mp4", tmp_path / "frames")
    assert not probe(tmp_path / "out.mp4").has_audio


def test_skipping_frames_keeps_all_audio(tmp_path):
    clip = clip_with(tmp_path, "aac")
    assert len(sound_of(edit(clip, tmp_path / "out.mp4", every=2))) == len(sound_of(clip))


def two_tracks(folder, default):
    """A clip with FLAC and AAC; `default` is the index of the track with the flag, or None."""
    clips = [clip_with(folder, sound, f"{sound}.mkv") for sound in ("flac", "aac")]
    with av.open(str(folder / "both.mkv"), "w") as output:
        sources = [av.open(str(clip)) for clip in clips]
        streams = [sources[0].streams.video[0], *(source.streams.audio[0] for source in sources)]
        copies = [output.add_stream_from_template(stream) for stream in streams]
        for index, copy in enumerate(copies[1:]):
            copy.disposition = Disposition.default if index == default else Disposition(0)
        for source, stream, copy in zip((sources[0], *sources), streams, copies, strict=True):
            source.seek(0)
            for packet in source.demux(stream):
                if packet.size:
                    packet.stream = copy
                    output.mux(packet)
        for source in sources:
            source.close()
    return folder / "both.mkv"


@pytest.mark.parametrize(("default", "track", "expected"), [(None, 1, "flac"), (0, 1, "flac"), (1, 2, "aac")])
def test_of_several_tracks_the_default_or_the_first_is_copied_with_a_warning(tmp_path, default, track, expected):
    clip = two_tracks(tmp_path, default)
    match = rf"both\.mkv has 2 audio tracks; only track {track} is used"
    with pytest.warns(TokenflowWarning, match=match) as caught:
        write_with_audio(tmp_path / "out.mkv", clip)
    assert len(caught) == 1
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert [stream.codec_context.name for stream in container.streams.audio] == [expected]


def test_truncated_audio_gives_a_warning(tmp_path):
    clip = clip_with(tmp_path, "pcm_s16le", "clip.mov", container_options={"movflags": "faststart"})
    clip.write_bytes(clip.read_bytes()[:-60_000])
    with pytest.warns(TokenflowWarning, match="damaged or truncated"):
        write_with_audio(tmp_path / "out.mov", clip)
    assert 1 < length(tmp_path / "out.mov") < COUNT / 25


def write_with_audio(out, clip):
    with VideoWriter(out, width=64, height=32, rate=25, audio_from=clip) as writer:
        for index in range(COUNT):
            writer.write(numbered(index))


@pytest.mark.filterwarnings("ignore:.*a packet is incomplete")  # FFmpeg cannot tell a join from a loss
@pytest.mark.parametrize("out", ["out.mp4", "out.mkv"])
@pytest.mark.parametrize("sound", ["ac3", "aac", "mp2"])
def test_sound_whose_layout_changes_midway_is_encoded_in_one(tmp_path, sound, out):
    layouts = ("stereo", "mono" if sound == "mp2" else "5.1")
    parts = [make_flashes(tmp_path / f"{layout}.ts", (1,), 2, sound, layout) for layout in layouts]
    (tmp_path / "clip.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    Video.read(tmp_path / "clip.ts").write(tmp_path / out)
    assert beeps(tmp_path / out) == pytest.approx(flashes(tmp_path / out), abs=0.003)
    assert len(beeps(tmp_path / out)) == 2
    with av.open(str(tmp_path / out)) as container:
        assert {frame.layout.name for frame in container.decode(audio=0)} == {"stereo"}


@pytest.mark.parametrize(
    ("sound", "layout", "out", "expected"),
    [
        ("pcm_s16le", "stereo", "out.mp4", "aac"),
        ("vorbis", "stereo", "out.mp4", "aac"),
        ("ac3", "5.1", "out.mp4", "aac"),
        ("alac", "stereo", "out.mp4", "aac"),
        ("flac", "stereo", "out.mov", "aac"),
        ("pcm_s16le", "stereo", "out.mov", "pcm_s16le"),
        ("ac3", "5.1", "out.mkv", "ac3"),
    ],
)
def test_sound_is_copied_only_into_containers_in_which_players_play_it(tmp_path, sound, layout, out, expected):
    clip = make_flashes(tmp_path / "clip.mkv", (0.5,), 1, sound, layout)
    Video.read(clip).write(tmp_path / out)
    with av.open(str(tmp_path / out)) as container:
        stream = container.streams.audio[0]
        assert stream.codec_context.codec.canonical_name == expected
        assert stream.layout.nb_channels == (6 if layout == "5.1" else 2)
    assert beeps(tmp_path / out) == pytest.approx([0.5], abs=0.006)


@pytest.mark.parametrize(("mode", "expected"), [("copy", "vorbis"), ("encode", "aac"), ("auto", "aac")])
def test_whether_sound_is_copied_or_encoded_may_be_chosen(tmp_path, mode, expected):
    clip = make_flashes(tmp_path / "clip.mkv", (0.5,), 1, "vorbis", "stereo")
    with VideoWriter(tmp_path / "out.mp4", width=32, height=32, rate=25, audio_from=clip, audio_mode=mode) as writer:
        for frame in read_frames(clip):
            writer.write(frame.image)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.audio[0].codec_context.codec.canonical_name == expected


@pytest.mark.parametrize(
    ("sound", "name"),
    [("pcm_s16le", "sound.wav"), ("aac", "sound.m4a"), ("libmp3lame", "sound.mp3"), ("flac", "s.flac")],
)
def test_sound_from_a_file_of_sound_begins_with_the_clip(tmp_path, sound, name):
    clip = make_flashes(tmp_path / "clip.mkv", (0.5, 1.5), 2, sound)
    with av.open(str(clip)) as source, av.open(str(tmp_path / name), "w") as output:
        copy = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    write_pngs(tmp_path / "frames", [numbered(index) for index in range(40)])
    for start, expected in ((0, [0.5, 1.5]), (1, [0.5])):
        Video.read(tmp_path / "frames", sound=tmp_path / name, start=start).write(tmp_path / "out.mp4")
        assert beeps(tmp_path / "out.mp4") == pytest.approx(expected, abs=0.006)


@pytest.mark.parametrize("name", ["no.wav", "silent.mp4", "frames"])
def test_a_file_without_sound_is_refused_as_sound(tmp_path, name):
    make(tmp_path / "silent.mp4", [numbered(0)])
    write_pngs(tmp_path / "frames", [numbered(0)])
    with pytest.raises((ClipError, ClipNotFoundError), match=r"no\.wav|has no sound; expected a file of sound"):
        Video.read(tmp_path / "silent.mp4", sound=tmp_path / name)
