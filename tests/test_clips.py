"""Clips of every kind through both stages, with a model that keeps everything but turns colours into their opposites.

What comes out is so the source's negative, frame by frame, if frames are read, kept, edited and written rightly.
"""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from torch import Tensor

import tokenflow
from tests.tiny import tiny_model
from tests.video.flash import beeps, make_flashes
from tests.video.making import CODECS, HEIGHT, WIDTH, flat, make, number, numbered, sound_of, write_pngs
from tokenflow.config import Config
from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.levels import Level
from tokenflow.errors import OutputError, TokenflowError, TokenflowWarning
from tokenflow.pipeline import EditResult
from tokenflow.video import Video, VideoWriter, probe, read_frames

COUNT = 6
WOLF = Path(__file__).parent.parent / "data" / "clips" / "wolf.mp4"


class Negative:
    """A model whose latents are pixels, whose network sees no noise, and whose decoder gives the negative."""

    schedule = tiny_model().schedule
    sites = tiny_model().sites
    pixels_per_latent = 1
    latent_channels = 3
    native_size = (WIDTH * HEIGHT) ** 0.5  # so that clips are edited at their own size
    size_multiple = 8
    device = torch.device("cpu")
    fingerprint = "negative"
    guidance = "branches"
    inpaints = False
    weight_bytes = 0

    @property
    def base(self) -> "Negative":
        return self

    def encode(self, frames: Tensor) -> Tensor:
        return frames * 2 - 1

    def decode(self, latents: Tensor) -> Tensor:
        return (0.5 - latents / 2).clamp(0, 1)

    def condition(self, prompt: str, **_: Any) -> Conditioning:
        return Conditioning(torch.zeros(1, 1, 1))

    def predict(self, latents: Tensor, level: Level, conditioning: Conditioning, **_: Any) -> Tensor:
        return torch.zeros(conditioning.branches, *latents.shape)


def edit(clip: Path, *overrides: str) -> EditResult:
    """The negative of a clip, in a folder beside it."""
    content = {
        "clip": {"path": clip, "prompt": "a clip", "cuts": []},
        "model": {"path": "negative", "device": "cpu"},
        "inversion": {"steps": 2, "warn_below_psnr": 0},
        "edit": {"prompt": "its negative", "steps": 2, "mode": "sdedit", "propagation": "none"},
        "output": {"dir": clip.parent / "out"},
        "trajectories": {"dir": clip.parent / "trajectories"},
    }
    saved = clip.parent / "negative.yaml"
    saved.write_text(Config.model_validate(content).to_yaml())
    model: Any = Negative()
    return tokenflow.run(tokenflow.load_config(saved, overrides, {}), model=model)


def pictures(count: int = COUNT) -> list[np.ndarray]:
    return [numbered(index) for index in range(count)]


def numbers(video: Path) -> list[int]:
    """The numbers in the source's frames of which these are the edits."""
    return [number(255 - frame.image) for frame in read_frames(video)]


def times(video: Path) -> list[Fraction]:
    return [frame.time for frame in read_frames(video)]


@pytest.mark.parametrize(("codec", "pixel_format", "name"), CODECS, ids=[f"{row[0]} {row[2]}" for row in CODECS])
def test_frame_n_is_the_edit_of_frame_n_whatever_the_clips_codec(
    codec: str, pixel_format: str, name: str, tmp_path: Path
) -> None:
    clip = make(tmp_path / name, pictures(), codec=codec, pixel_format=pixel_format)
    result = edit(clip)
    assert numbers(result.video) == list(range(COUNT))
    assert times(result.video) == [Fraction(index, 25) for index in range(COUNT)]
    assert probe(result.video).rate == 25
    assert [number(frame.image[:, :WIDTH]) for frame in read_frames(result.comparison)] == list(range(COUNT))
    assert [number(255 - frame.image[:, WIDTH:]) for frame in read_frames(result.comparison)] == list(range(COUNT))


def animated(name: str, **settings: Any) -> Callable[[Path], Path]:
    def save(folder: Path) -> Path:
        first, *rest = map(Image.fromarray, pictures())
        first.save(folder / name, save_all=True, append_images=rest, duration=[40, 80] * 3, **settings)
        return folder / name

    return save


def in_a_folder(folder: Path) -> Path:
    write_pngs(folder / "frames", pictures())
    return folder / "frames"


@pytest.mark.parametrize(
    ("clip", "gap"),
    [
        (animated("a.webp", lossless=True), 60),
        (animated("a.png"), 60),
        (animated("a.gif"), 60),
        (in_a_folder, 40),
        (lambda folder: in_a_folder(folder) / "frame_%05d.png", 40),
        (lambda folder: in_a_folder(folder) / "*.png", 40),
    ],
    ids=["webp", "apng", "gif", "folder", "counted names", "pattern"],
)
def test_frame_n_is_the_edit_of_picture_n(clip: Callable[[Path], Path], gap: int, tmp_path: Path) -> None:
    result = edit(clip(tmp_path))
    assert numbers(result.video) == list(range(COUNT))
    assert times(result.video)[::2] == [Fraction(gap * index, 1000) for index in range(0, COUNT, 2)]


def test_another_picture_in_a_folder_is_another_clip(tmp_path: Path) -> None:
    frames = in_a_folder(tmp_path)
    edit(frames)
    Image.fromarray(numbered(77)).save(frames / "frame_00003.png")
    assert numbers(edit(frames).video) == [0, 1, 2, 77, 4, 5]
    assert len(list((frames.parent / "trajectories").iterdir())) == 2


@pytest.mark.parametrize(
    ("container", "codec"),
    [
        ("mp4", "h264"),
        ("mp4", "hevc"),
        ("mp4", "av1"),
        ("mov", "prores"),
        ("mkv", "ffv1"),
        ("mkv", "h264"),
        ("webm", "vp9"),
        ("webm", "av1"),
    ],
)
def test_frame_n_is_the_edit_of_frame_n_whatever_is_written(container: str, codec: str, tmp_path: Path) -> None:
    rate = Fraction(30_000, 1001)
    clip = make(tmp_path / "clip.mp4", pictures(), rate=rate, sound="aac")
    result = edit(clip, f"output.container={container}", f"output.codec={codec}", "output.pngs=true")
    assert result.video.name == f"edited.{container}"
    assert numbers(result.video) == list(range(COUNT))
    assert times(result.video) == [index / rate for index in range(COUNT)]
    assert probe(result.video).has_audio
    stills = sorted((tmp_path / "out" / "frames").iterdir())
    assert [number(255 - np.asarray(Image.open(still))) for still in stills] == list(range(COUNT))


def test_quality_is_as_wished(tmp_path: Path) -> None:
    grain = np.random.default_rng(0).integers(0, 255, (3, HEIGHT, WIDTH, 3), dtype=np.uint8)
    clip = make(tmp_path / "clip.mkv", grain, codec="ffv1", pixel_format="bgr0")
    sizes = [edit(clip, f"output.quality={quality}").video.stat().st_size for quality in (5, 45)]
    assert sizes[1] < sizes[0] / 2


UNEVEN = [Fraction(tick, 90) for tick in (0, 3, 5, 20, 21, 90)]


def test_a_variable_rate_is_kept(tmp_path: Path) -> None:
    result = edit(make(tmp_path / "clip.mp4", pictures(), times=UNEVEN))
    assert numbers(result.video) == list(range(COUNT))
    assert times(result.video) == UNEVEN
    assert times(result.comparison) == UNEVEN


def lengths(video: Path) -> list[float]:
    """Seconds that the pictures of a file last, and its sound."""
    with av.open(str(video)) as container:
        return [float((stream.duration or 0) * (stream.time_base or 0)) for stream in container.streams]


@pytest.mark.parametrize(
    ("overrides", "end", "silence"),
    [
        ([], 4.08, 4.0),
        (["clip.frames=3"], 1.04, 1.04),
        (["clip.every=2"], 4.08, 4.0),
        (["clip.frames=2", "clip.every=2"], 1.08, 1.08),
        (["clip.start=1.0"], 3.08, 3.0),
    ],
)
def test_the_last_picture_stands_as_long_as_in_the_source_and_the_sound_goes_on(
    overrides: list[str], end: float, silence: float, tmp_path: Path
) -> None:
    """A recording of a screen, on which little happens, with speech to it."""
    times = [Fraction(tick, 100) for tick in (0, 50, 100, 104, 108)]
    clip = make(tmp_path / "clip.mp4", pictures(5), times=times, end=Fraction(408, 100), sound="aac", seconds=4)
    result = edit(clip, *overrides)
    shown, heard = lengths(result.video)
    assert shown == pytest.approx(end, abs=1e-4)
    assert heard == pytest.approx(silence, abs=2 * 1024 / 48_000)  # packets of AAC last 1024 samples of 48000
    assert lengths(result.comparison) == pytest.approx([end], abs=1e-4)
    (trajectory,) = (tmp_path / "trajectories").iterdir()
    assert lengths(trajectory / "reconstruction.mp4") == pytest.approx([end], abs=1e-4)


def test_an_animation_ends_with_its_last_pictures_pause(tmp_path: Path) -> None:
    first, *rest = map(Image.fromarray, pictures(4))
    for name in ("a.gif", "a.webp"):
        first.save(tmp_path / name, save_all=True, append_images=rest, duration=[100, 100, 100, 2000])
        assert lengths(edit(tmp_path / name).video) == pytest.approx([2.3])


def test_of_a_part_come_its_frames_times_and_sound(tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", pictures(60), sound="aac")
    result = edit(clip, "clip.start=0.8", "clip.frames=5", "clip.every=3")
    assert numbers(result.video) == [20, 23, 26, 29, 32]
    assert times(result.video) == [Fraction(3 * index, 25) for index in range(5)]
    stored, copied = sound_of(clip), sound_of(result.video)
    begin = [data for _, data in stored].index(copied[0][1])
    # Each packet is heard 0.8 s earlier, where the part begins; MP4 rounds that to its ticks.
    for (heard, data), (then, same) in zip(copied, stored[begin:], strict=False):
        assert data == same
        assert float(then - heard) == pytest.approx(0.8, abs=1e-3)
    # AAC packets last 1024 samples of 48000; the part lasts five times three pictures of 25 a second.
    assert len(copied) == pytest.approx(15 / 25 * 48_000 / 1024, abs=2)


def test_a_clip_as_a_phone_films_it(tmp_path: Path) -> None:
    """On its side, in HEVC of ten bits and high dynamic range, of a variable rate, with sound."""
    clip = make(
        tmp_path / "clip.mov",
        pictures(),
        codec="libx265",
        pixel_format="yuv420p10le",
        options={"x265-params": "log-level=none"},
        times=UNEVEN,
        sound="aac",
        rotation=90,
        tags={"colorspace": 9, "color_primaries": 9, "color_trc": 18, "color_range": 1},
        convert={"dst_colorspace": "BT2020", "dst_color_range": 1},
    )
    result = edit(clip)
    assert times(result.video) == UNEVEN
    upright = [np.rot90(frame.image, -1) for frame in read_frames(result.video)]
    assert [number(255 - picture) for picture in upright] == list(range(COUNT))
    info = probe(result.video)
    assert (info.width, info.height, info.has_audio) == (HEIGHT, WIDTH, True)
    with av.open(str(result.video)) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_primaries, context.color_trc, context.color_range) == (1, 1, 1, 1)


KINDS: dict[str, dict[str, Any]] = {
    "interlaced": {"options": {"x264-params": "tff=1"}},
    "full range": {"tags": {"color_range": 2}, "convert": {"dst_color_range": 2}},
    "ten bits": {"pixel_format": "yuv420p10le"},
    "four to four": {"pixel_format": "yuv444p"},
    "alpha": {"codec": "libvpx-vp9", "pixel_format": "yuva420p"},
    "open groups": {"options": {"x264-params": "open-gop=1:bframes=3"}},
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_frame_n_is_the_edit_of_frame_n_whatever_the_pixels(kind: dict[str, Any], tmp_path: Path) -> None:
    result = edit(make(tmp_path / "clip.mkv", pictures(), **kind))
    assert numbers(result.video) == list(range(COUNT))


@pytest.mark.parametrize(
    ("stored", "settings", "shown"),
    [
        ((65, 35), {"codec": "ffv1", "pixel_format": "bgr0"}, (66, 36)),  # H.264 takes even sizes only
        ((64, 32), {"aspect": Fraction(4, 3)}, (86, 32)),
        ((64, 32), {"aspect": Fraction(4, 3), "rotation": 90}, (32, 86)),
        ((200, 40), {}, (200, 40)),
    ],
)
@pytest.mark.parametrize("how", ["fit", "pad"])
def test_a_clip_of_any_size_comes_back_in_that_size(
    stored: tuple[int, int], settings: dict[str, Any], shown: tuple[int, int], how: str, tmp_path: Path
) -> None:
    clip = make(tmp_path / "clip.mkv", [numbered(index, *stored) for index in range(3)], **settings)
    result = edit(clip, f"clip.resize={how}")
    info = probe(result.video)
    assert (info.width, info.height) == shown
    turned = [np.rot90(frame.image, -1 if shown[0] < shown[1] else 0) for frame in read_frames(result.video)]
    assert [number(255 - picture) for picture in turned] == [0, 1, 2]


def test_a_clip_of_4k_is_edited_small_and_comes_back_in_4k(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", width=3840, height=2160, rate=25, options={"preset": "ultrafast"}) as video:
        for index in range(2):
            video.write(numbered(index, 3840, 2160))
    result = edit(tmp_path / "clip.mp4", "clip.size=64")
    assert numbers(result.video) == [0, 1]
    assert (probe(result.video).width, probe(result.video).height) == (3840, 2160)


def test_a_filmed_clip(tmp_path: Path) -> None:
    clip = tmp_path / "wolf.mp4"
    clip.write_bytes(WOLF.read_bytes())
    source = list(read_frames(clip, start=0.4, frames=6))
    result = edit(clip, "clip.start=0.4", "clip.frames=6", "clip.size=256")
    edited = list(read_frames(result.video))
    assert [frame.time for frame in edited] == [frame.time for frame in source]
    for frame, original in zip(edited, source, strict=True):
        assert frame.image.shape == original.image.shape
        # Each frame is the negative of its own source and of no other's, though all look alike.
        far = [np.abs(255 - frame.image.astype(int) - other.image).mean() for other in source]
        assert source[int(np.argmin(far))] is original


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("clip.mp4", {"options": {"preset": "ultrafast"}}),
        ("clip.webm", {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}}),
        ("clip.avi", {"codec": "mjpeg", "pixel_format": "yuvj420p"}),
        ("clip.gif", {"codec": "gif", "pixel_format": "rgb8"}),
        ("interlaced.mkv", {"options": {"x264-params": "tff=1", "preset": "ultrafast"}}),
    ],
)
def test_memory_does_not_grow_with_the_clip(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    """A hundred pictures of a megabyte are read and none is kept."""
    picture = flat((90, 120, 150), 640, 480)
    clip = make(tmp_path / name, [picture] * 160, **settings)
    process = psutil.Process()
    resident = [process.memory_info().rss for _ in read_frames(clip)]
    assert len(resident) == 160
    assert resident[-1] - resident[60] < 20 * picture.nbytes


@pytest.mark.parametrize("kind", ["folder", "webp"])
def test_memory_does_not_grow_with_pictures(kind: str, tmp_path: Path) -> None:
    picture = flat((90, 120, 150), 640, 480)
    if kind == "folder":
        write_pngs(tmp_path / kind, [picture] * 120)
    else:
        stills = [Image.fromarray(numbered(index, 640, 480)) for index in range(120)]
        stills[0].save(tmp_path / kind, "WEBP", save_all=True, append_images=stills[1:], duration=40)
    (tmp_path / kind).rename(tmp_path / f"clip{'.webp' if kind == 'webp' else ''}")
    (clip,) = tmp_path.iterdir()
    process = psutil.Process()
    resident = [process.memory_info().rss for _ in read_frames(clip)]
    assert len(resident) == 120
    assert resident[-1] - resident[40] < 20 * picture.nbytes


@pytest.mark.parametrize("container", ["gif", "webp", "apng"])
def test_the_edit_may_be_an_animation(container: str, tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", pictures(), sound="aac")
    with pytest.warns(TokenflowWarning, match=f"output.container is {container}, which holds no sound") as caught:
        result = edit(clip, f"output.container={container}")
    assert len(caught) == 1
    assert result.video.name == f"edited.{container}"
    assert numbers(result.video) == list(range(COUNT))
    assert times(result.video) == [Fraction(index, 25) for index in range(COUNT)]
    assert result.comparison is not None
    assert result.comparison.name == "comparison.mp4"
    assert len(result.frames) == COUNT


def test_an_animation_has_no_other_codec(tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", pictures())
    with pytest.raises(OutputError, match=r"output\.container is gif, which has a codec of its own"):
        edit(clip, "output.container=gif", "output.codec=h264")


def test_a_gif_of_a_fast_clip_is_refused_before_the_work(tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", pictures(), rate=60)
    with pytest.raises(OutputError, match=r"50 frames per second at most; set clip\.rate to 50"):
        edit(clip, "output.container=gif")
    assert not (tmp_path / "trajectories").exists()
    assert numbers(edit(clip, "output.container=gif", "clip.rate=50").video)[:5] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("resize", ["fit", "fill"])
@pytest.mark.parametrize(("container", "codec"), [("webm", "null"), ("apng", "null"), ("mkv", "ffv1")])
def test_transparency_is_kept_where_the_format_holds_it(
    container: str, codec: str, resize: str, tmp_path: Path
) -> None:
    alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
    alpha[:, 16:32] = 0
    clip = make(
        tmp_path / "clip.apng", [np.dstack([each, alpha]) for each in pictures()], codec="apng", pixel_format="rgba"
    )
    settings = [f"output.container={container}", f"output.codec={codec}", f"clip.resize={resize}"]
    result = edit(clip, "clip.background=white", *settings, "clip.size=[48,32]")
    written = Video.read(result.video, background="white")
    kept = alpha[(HEIGHT - written.size[1]) // 2 :, (WIDTH - written.size[0]) // 2 :]
    assert written.alpha is not None
    for each in written.alpha:
        assert np.abs(each.astype(int) - kept[: written.size[1], : written.size[0]]).mean() < 4


def test_a_clip_may_be_resampled(tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", pictures(), sound="aac")
    result = edit(clip, "clip.rate=12.5")
    assert numbers(result.video) == [0, 2, 4]
    assert times(result.video) == [Fraction(2 * index, 25) for index in range(3)]
    assert probe(result.video).has_audio
    assert numbers(edit(clip).video) == list(range(COUNT))  # which is another inversion


def test_images_may_have_a_rate_and_sound(tmp_path: Path) -> None:
    folder = in_a_folder(tmp_path)
    sound = make_flashes(tmp_path / "sound.mkv", (0.3,), 1)
    result = edit(folder, "clip.rate=10", f"clip.sound={sound}", "clip.start=0.1")
    assert times(result.video) == [Fraction(index, 10) for index in range(COUNT - 1)]
    assert beeps(result.video) == pytest.approx([0.2], abs=0.006)


def test_sound_may_be_left_out(tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", pictures(), sound="aac")
    assert not probe(edit(clip, "output.sound=none").video).has_audio


@pytest.mark.parametrize(("name", "message"), [("no.wav", "there is no clip at"), ("clip.mp4", "has no sound")])
def test_a_file_without_sound_is_told_before_the_work(name: str, message: str, tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", pictures())
    with pytest.raises(TokenflowError, match=message):
        edit(clip, f"clip.sound={tmp_path / name}")
    assert not (tmp_path / "trajectories").exists()
