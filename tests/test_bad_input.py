"""Everything a user can get wrong, through the command line: one line that says what to do, and nothing spoilt."""

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
import torch
from PIL import Image

import tokenflow
from tests.tiny import moving_square, save_tiny_setup
from tests.video.making import flat, make, numbered, write_pngs
from tokenflow.apps.cli import main
from tokenflow.errors import TokenflowWarning
from tokenflow.events import notice
from tokenflow.pipeline import job
from tokenflow.store import inversions as trajectories
from tokenflow.store.files import LOCK, locked
from tokenflow.video import VideoWriter, read_frames
from tokenflow.video.sound import muxer


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip, a model, a configuration, and what both stages made of them."""
    folder = tmp_path_factory.mktemp("finished")
    config = save_tiny_setup(folder, frames=3, steps=2)
    assert status("edit", config) == 0
    return folder


@pytest.fixture
def place(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, from which the configuration's paths are counted."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace(f"{finished}/", ""))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def status(command: str, config: Path, *overrides: str) -> int | str | None:
    """The exit status of a command line."""
    with pytest.raises(SystemExit) as end:
        main([command, str(config), *overrides, "--quiet"])
    return end.value.code


def tree(folder: Path) -> dict[str, bytes]:
    """Everything that lies in a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


class Row(NamedTuple):
    """Something wrong: how to bring it about (giving overrides), and what must be said of it."""

    arrange: Callable[[Path], list[str]]
    said: str


def clip(name: str, content: bytes) -> Callable[[Path], list[str]]:
    def arrange(place: Path) -> list[str]:
        (place / name).write_bytes(content)
        return [f"clip.path={name}"]

    return arrange


def truncated(place: Path) -> list[str]:
    return clip("cut.mp4", (place / "clip.mp4").read_bytes()[:-300])(place)


def directory(place: Path) -> list[str]:
    (place / "folder").mkdir()
    return ["clip.path=folder"]


def sound_only(place: Path) -> list[str]:
    make(place / "both.mkv", [numbered(0)] * 25, sound="aac")
    with av.open("both.mkv") as source, av.open("sound.m4a", "w", format="mp4") as output:
        copy = output.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    return ["clip.path=sound.m4a"]


def zero_frames(place: Path) -> list[str]:
    with av.open("none.mkv", "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        output.start_encoding()
    return ["clip.path=none.mkv"]


def wide(place: Path) -> list[str]:
    Image.fromarray(np.zeros((1, 30_000, 3), np.uint8)).save("thin.png")
    return ["clip.path=thin.png"]


def wide_for_mp4(place: Path) -> list[str]:
    Image.fromarray(np.zeros((1, 90_000, 3), np.uint8)).save("thin.png")
    return ["clip.path=thin.png"]


def wider(place: Path) -> list[str]:
    return [*wide(place), "clip.size=1024", "output.codec=ffv1", "output.container=mkv"]


def settings(*overrides: str) -> Callable[[Path], list[str]]:
    return lambda _: list(overrides)


def without_unet(place: Path) -> list[str]:
    shutil.rmtree(place / "model" / "unet")
    return []


def pickled(place: Path) -> list[str]:
    (weights,) = (place / "model" / "unet").glob("*.safetensors")
    weights.unlink()
    torch.save({}, place / "model" / "unet" / "diffusion_pytorch_model.bin")
    return []


def pickled_file(place: Path) -> list[str]:
    torch.save({}, "model.ckpt")
    return ["model.path=model.ckpt"]


def cut_weights(place: Path) -> list[str]:
    (weights,) = (place / "model" / "unet").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1000])
    return []


def stored(place: Path) -> Path:
    (folder,) = (place / "trajectories").iterdir()
    return folder


def of_something_else(*changes: str) -> Callable[[Path], list[str]]:
    """The trajectory that is there stands where that for other settings belongs."""

    def arrange(place: Path) -> list[str]:
        old = stored(place)
        assert status("preprocess", place / "config.yaml", *changes) == 0
        (new,) = set((place / "trajectories").iterdir()) - {old}
        shutil.rmtree(new)
        old.rename(new)
        return list(changes)

    return arrange


def other_clip(place: Path) -> list[str]:
    with VideoWriter("other.mp4", width=24, height=16, rate=10) as video:
        for picture in moving_square(3, step=2):
            video.write(picture)
    return of_something_else("clip.path=other.mp4")(place)


def other_version(place: Path) -> list[str]:
    manifest = stored(place) / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"format": {trajectories.FORMAT}', '"format": 1'))
    return []


def flipped(name: str, at: float) -> Callable[[Path], list[str]]:
    def arrange(place: Path) -> list[str]:
        (file,) = stored(place).glob(name)
        content = bytearray(file.read_bytes())
        content[int(at * (len(content) - 1))] ^= 4
        file.write_bytes(content)
        return []

    return arrange


def gone(name: str) -> Callable[[Path], list[str]]:
    def arrange(place: Path) -> list[str]:
        (file,) = stored(place).glob(name)
        file.unlink()
        return []

    return arrange


def taken(name: str, *overrides: str) -> Callable[[Path], list[str]]:
    """A file where a folder is needed."""

    def arrange(place: Path) -> list[str]:
        (place / name).touch()
        return list(overrides)

    return arrange


def pictures(folder: str, *overrides: str) -> Callable[[Path], list[str]]:
    """A clip of pictures that the user has put into a folder."""

    def arrange(place: Path) -> list[str]:
        write_pngs(folder, moving_square(3))
        return [f"clip.path={folder}", *overrides]

    return arrange


def edited_by_hand(place: Path) -> list[str]:
    with (place / "out" / "config.yaml").open("a") as file:
        file.write("# mine\n")
    return []


def without_report(place: Path) -> list[str]:
    (place / "out" / "report.json").unlink()
    return []


def link_to_nothing(place: Path) -> list[str]:
    (place / "out" / "edited.mp4").unlink()
    (place / "out" / "edited.mp4").symlink_to("nowhere.mp4")
    return []


def mask_among_results(place: Path) -> list[str]:
    shutil.copy("out/contact_sheet.png", "mask.png")
    (place / "new").symlink_to("out")
    return ["metrics.mask=out/contact_sheet.png", "output.dir=new"]


def webp_as_mp4(place: Path) -> list[str]:
    first, *rest = map(Image.fromarray, moving_square(3))
    first.save("moving.mp4", "WEBP", save_all=True, append_images=rest)
    return ["clip.path=moving.mp4"]


def mp4_as_png(place: Path) -> list[str]:
    shutil.copy("clip.mp4", "clip.png")
    return ["clip.path=clip.png"]


def pipe(place: Path) -> list[str]:
    os.mkfifo("pipe.mp4")
    return ["clip.path=pipe.mp4"]


def tall(place: Path) -> list[str]:
    Image.fromarray(np.zeros((3000, 1, 3), np.uint8)).save("tall.png")
    return ["clip.path=tall.png", "clip.size=64"]


def of_32_bits(place: Path) -> list[str]:
    Image.fromarray(np.arange(64 * 64, dtype=np.int32).reshape(64, 64)).save("deep.tif")
    return ["clip.path=deep.tif"]


def of_floats(place: Path) -> list[str]:
    Image.fromarray(np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)).save("real.tif")
    return ["clip.path=real.tif"]


def too_small_for_av1(place: Path) -> list[str]:
    Image.fromarray(np.zeros((3, 5, 3), np.uint8)).save("tiny.png")
    return ["clip.path=tiny.png", "output.codec=av1"]


def too_fast_for_av1(place: Path) -> list[str]:
    with VideoWriter("fast.mkv", width=64, height=64, rate=500, codec="ffv1") as video:
        for picture in moving_square(3, 64, 64):
            video.write(picture)
    return ["clip.path=fast.mkv", "output.codec=av1"]


PLACES = ["clip.path", "model.path", "metrics.clip", "metrics.mask", "output.dir", "trajectories.dir"]

ROWS = {
    "missing clip": Row(settings("clip.path=no.mp4"), r"there is no clip at no\.mp4 in /.*; check the path"),
    "directory": Row(directory, r"folder is a folder without images; expected a video"),
    "empty file": Row(clip("empty.mp4", b""), r"empty\.mp4 cannot be read .*expected a video"),
    "truncated": Row(truncated, r"cut\.mp4 cannot be read .*expected a video"),
    "sound only": Row(sound_only, r"sound\.m4a has no video stream .*it holds: audio.*expected a video"),
    "zero frames": Row(zero_frames, r"none\.mkv .*(cannot be read|no frames)"),
    "text as mp4": Row(clip("text.mp4", b"Dear diary,\n" * 99), r"text\.mp4 cannot be read .*expected a video"),
    "text as png": Row(clip("text.png", b"Dear diary,\n" * 99), r"text\.png cannot be read .*expected an image"),
    "an animation named as a video": Row(
        webp_as_mp4, r"moving\.mp4 contains no frames .*wrong extension \(such as \.mp4 for a \.webp\)"
    ),
    "a video named as a picture": Row(
        mp4_as_png, r"clip\.png cannot be read .*its name ends in \.png; if it is a video, rename it"
    ),
    "a pipe": Row(pipe, r"pipe\.mp4 is a pipe or a device; expected a regular file"),
    "a device": Row(settings("clip.path=/dev/zero"), r"/dev/zero is a pipe or a device; expected a regular file"),
    **{f"too long: {key}": Row(settings(f"{key}={'a' * 300}"), rf"{key}: .*\(File name too long\)") for key in PLACES},
    **{f"NUL: {key}": Row(settings(f"{key}=a\0b"), rf"{key}: .*(null byte|not allowed)") for key in PLACES},
    "start past the end": Row(settings("clip.start=9"), r"clip\.mp4 ends before 9 s; choose an earlier start"),
    "size too large": Row(settings("clip.size=16384"), r"more than a model takes .*; set clip\.size to less"),
    "too wide for the codec": Row(
        wide, r"30000×1 at 25 per second, which output\.codec h264 does .* to one of vp9, ffv1\n"
    ),
    "too wide for all that MP4 holds": Row(wide_for_mp4, r"90000×1 .* with output\.container: .*ffv1 in mkv\n"),
    "too wide for a model": Row(
        wider, r"thin\.png is 30000×1 and would be edited at .*set clip\.size to less, or to a"
    ),
    "too tall for a model": Row(tall, r"tall\.png is 1×3000 and would be edited at 64×192000.*8192 on the longer side"),
    "pixels of 32 bits": Row(of_32_bits, r"deep\.tif stores pixels as 32-bit integers, .*save it with 8 or 16 bits"),
    "pixels of floats": Row(
        of_floats, r"real\.tif stores pixels as floating-point numbers, .*save it with 8 or 16 bits"
    ),
    "too small for the codec": Row(
        too_small_for_av1,
        r"5×3 at 25 per second, which output\.codec av1 does not take; .* to one of h264, vp9, ffv1\n",
    ),
    "too fast for the codec": Row(
        too_fast_for_av1,
        r"64×64 at 500 per second, which output\.codec av1 does not .* to one of h264, hevc, vp9, ffv1\n",
    ),
    "size 0": Row(settings("clip.size=0"), r"clip\.size: expected the shorter side in pixels"),
    "NaN": Row(settings("edit.guidance_scale=.nan"), r"edit\.guidance_scale: expected a finite number, got nan"),
    "NaN start": Row(settings("clip.start=.nan"), r"clip\.start: .*got nan"),
    "negative steps": Row(settings("edit.steps=-5"), r"edit\.steps: .* greater than or equal to 1, got -5"),
    "steps past training": Row(settings("inversion.steps=5000"), r"steps is 5000; expected 1 to 1000"),
    "interval past the clip": Row(settings("edit.keyframe_interval=9"), r"the clip has 3 frames; expected 1 to 3"),
    "window of one": Row(settings("edit.keyframe_window=1"), r"edit\.keyframe_window: .*greater than or equal to 2"),
    "threshold past all steps": Row(
        settings("edit.pnp.features_until=1.5"), r"edit\.pnp\.features_until: .*less than or equal to 1"
    ),
    "near miss": Row(settings("edit.promt=x"), r"edit\.promt: unknown; did you mean edit\.prompt\?"),
    "codec and container": Row(
        settings("output.codec=vp9", "output.container=mov"),
        r"output\.container is mov, which does not hold output\.codec vp9; set output\.codec to one of h264, hevc, "
        r"prores, or output\.container to one of mp4, mkv, webm\n",
    ),
    "quality of none": Row(
        settings("output.codec=ffv1", "output.quality=3", "output.container=mkv"), r"no quality setting"
    ),
    "no model": Row(settings("model.path=./nowhere"), r"the folder '\./nowhere' was not found in /.*; set model\.path"),
    "not a model": Row(settings("model.path=out"), r"'out' has no model_index\.json.*set model\.path"),
    "model without a UNet": Row(without_unet, r"needs safetensors weights in unet/ and has none; download"),
    "pickle in the model": Row(
        pickled, r"has only diffusion_pytorch_model\.bin, a pickle, which tokenflow never opens; download or con"
    ),
    "pickle as the model": Row(pickled_file, r"'model\.ckpt', a pickle.*expected \.safetensors.*convert it"),
    "weights cut off": Row(cut_weights, r"'model' cannot be loaded .*; download it again"),
    "no such device": Row(settings("model.device=toaster"), r"model\.device is 'toaster'.*expected auto, cpu"),
    "no ControlNet": Row(settings("edit.mode=controlnet", "edit.controlnet.path=./none"), r"edit\.controlnet\.path"),
    "another clip's trajectory": Row(other_clip, r"was made from another clip .*; delete the folder"),
    "another model's": Row(
        of_something_else("model.dtype=float16"), r"was made from another model .*; delete the folder"
    ),
    "another part's": Row(of_something_else("clip.frames=2"), r"was made from another part .*; delete the folder"),
    "another version's": Row(other_version, r"is of format 1, but this version reads format \d+; delete the folder"),
    "byte flipped in a step": Row(
        flipped("s0.618858.safetensors", 0.9), r"s0\.618858\.safetensors is damaged.*; delete the"
    ),
    "byte flipped in the frames": Row(flipped("frames.rgb", 0.5), r"frames\.rgb is damaged.*; delete the folder"),
    "byte flipped in the report": Row(flipped("report.json", 0.5), r"report\.json is damaged.*; delete the folder"),
    "byte flipped in the manifest": Row(
        flipped("manifest.json", 0.5), r"manifest\.json is damaged.*; delete the folder"
    ),
    "a step gone": Row(gone("s0.618858.safetensors"), r"s0\.618858\.safetensors is missing; delete the folder"),
    "the report gone": Row(gone("report.json"), r"report\.json is missing; delete the folder"),
    "output is a file": Row(
        taken("file", "output.dir=file"), r"cannot write to file \(it or .* not a folder\); .*set output"
    ),
    "output is a device": Row(
        settings("output.dir=/dev/null"), r"write to /dev/null \(it or .* not a folder\); .*set out"
    ),
    "output under a file": Row(
        taken("file", "output.dir=file/out"),
        r"write to file/out \(it or one of its parents is not a folder\); .*set output",
    ),
    "a file where PNGs are to go": Row(
        taken("out/frames", "output.pngs=true"),
        r"out/frames was not written by tokenflow, .*; move it or choose another",
    ),
    "a link to nothing where a result is to go": Row(link_to_nothing, r"out/edited\.mp4 was not written by tokenflow"),
    "trajectories is a file": Row(
        taken("file", "trajectories.dir=file", "edit.seed=1"),
        r"cannot write to file/clip-[\w-]+ .*set trajectories\.dir",
    ),
    "the clip is a result": Row(
        settings("clip.path=out/edited.mp4"),
        r"out/edited\.mp4 belongs to the clip .*would overwrite",
    ),
    "the mask is a result": Row(
        mask_among_results, r"new/contact_sheet\.png belongs to .* mask.*choose another output"
    ),
    "PNGs over the clip's": Row(
        pictures("new/frames", "output.dir=new", "output.pngs=true"),
        r"new/frames belongs to the clip",
    ),
    "results among the clip's pictures": Row(
        pictures("new", "output.dir=new"), r"new belongs to the clip .*would overwrite, delete or extend it"
    ),
    "a configuration in the place of the saved one": Row(
        settings("output.dir=."), r"config\.yaml was not written by tokenflow.*move it or choose another output"
    ),
    "a result changed by hand": Row(edited_by_hand, r"out/config\.yaml .*or has been changed since.*; move it or"),
    "results without their report": Row(
        without_report, r"out/comparison\.mp4 was not written by tokenflow.*; move it or"
    ),
    "a trajectory as the output": Row(
        lambda place: [f"output.dir={stored(place)}"], r"report\.json was not written by tokenflow"
    ),
    "nowhere to write": Row(settings("output.dir=/proc/out"), r"cannot write to /proc/out .*set output\.dir"),
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_one_line_says_what_to_do_and_nothing_is_spoilt(
    row: Row, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    overrides = row.arrange(place)
    before = tree(place)
    capfd.readouterr()
    assert status("edit", place / "config.yaml", *overrides) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert re.fullmatch(r"error: [^\n]+\n", said.err), said.err
    assert re.search(row.said, said.err), said.err
    after = tree(place)
    assert {name: after.get(name) for name in before} == before
    assert set(after) - set(before) <= {"trajectories"}


def test_the_users_files_stay_beside_results(place: Path) -> None:
    """Pictures that are edited, those in the way of an edit's own, and one among an edit's own that was retouched."""
    write_pngs("new/frames", moving_square(3))
    Path("new/notes.txt").write_text("mine")
    before = tree(place / "new")
    assert status("edit", place / "config.yaml", "clip.path=new/frames", "output.dir=new") == 0
    assert {name: tree(place / "new").get(name) for name in before} == before

    assert status("edit", place / "config.yaml", "output.pngs=true") == 0
    retouched = place / "out" / "frames" / "frame_00001.png"
    Image.fromarray(moving_square(1)[0]).save(retouched)
    assert status("edit", place / "config.yaml", "output.container=mkv") == 0
    assert list(retouched.parent.iterdir()) == [retouched]
    assert not (place / "out" / "edited.mp4").exists()


ONE_PIXEL = np.full((1, 1, 3), 90, np.uint8)


@pytest.mark.parametrize("correspondence", ["flow", "nearest"])
@pytest.mark.parametrize("mode", ["pnp", "sdedit"])
@pytest.mark.parametrize(
    ("name", "picture", "size"),
    [
        ("one.mp4", moving_square(1)[0], (16, 24)),
        ("one.png", ONE_PIXEL, (2, 2)),
        ("thin.png", flat((9, 9, 9), 6, 1), (2, 6)),
    ],
)
def test_one_frame_and_one_pixel_are_a_clip(
    name: str, picture: np.ndarray, size: tuple[int, int], mode: str, correspondence: str, place: Path
) -> None:
    if name.endswith("png"):
        Image.fromarray(picture).save(name)
    else:
        make(place / name, [picture])
    wishes = [f"clip.path={name}", f"edit.mode={mode}", f"edit.correspondence={correspondence}", "output.dir=new"]
    wishes += ["edit.keyframe_interval=null"]  # the other clips' is longer than this one
    assert status("edit", place / "config.yaml", *wishes) == 0
    (frame,) = read_frames("new/edited.mp4")
    assert frame.image.shape == (*size, 3)


@pytest.mark.filterwarnings("default")
def test_of_a_clip_that_breaks_off_what_can_be_decoded_is_edited(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    grain = np.random.default_rng(0).integers(0, 255, (12, 16, 24, 3), dtype=np.uint8)
    clip = make(place / "cut.mp4", grain, container_options={"movflags": "faststart"})
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 2 // 3])
    capfd.readouterr()
    assert status("edit", place / "config.yaml", "clip.path=cut.mp4", "output.dir=new") == 0
    said = capfd.readouterr().err
    assert re.fullmatch(
        r"(warning: cut\.mp4 is damaged or truncated [^\n]+; only the part that can be decoded is used\n)+", said
    )
    assert 1 < len(list(read_frames("new/edited.mp4"))) < 12


def test_sound_that_cannot_be_written_is_refused_before_the_work(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """MP4 takes no PCM without names of its channels, and says so at its end: here nobody has asked it."""
    monkeypatch.setattr(muxer, "can_copy", lambda *_, **__: True)
    monkeypatch.setattr(job, "open_model", pytest.fail)
    make(place / "clip.mkv", moving_square(3), sound="pcm_s16le", layout="stereo")
    capfd.readouterr()
    assert status("edit", place / "config.yaml", "clip.path=clip.mkv") == 2
    assert re.fullmatch(
        r"error: out/\.tokenflow-partial/edited\.mp4 cannot be written [^\n]+\n", capfd.readouterr().err
    )


def test_too_little_memory_is_said_as_such(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tokenflow, "run", lambda *_, **__: torch.empty(10**15))
    assert status("edit", place / "config.yaml") == 2
    assert re.fullmatch(r"error: memory ran out; set a smaller [^\n]+\n", capfd.readouterr().err)


@pytest.fixture
def small_disk(place: Path) -> Iterator[Callable[[str], None]]:
    """A disk mounted at `disk`, where that can be done; calling it sets its size."""

    def resize(size: str, first: str = "remount,") -> None:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"{first}size={size}", "tmpfs", "disk"], check=True, cwd=place)

    (place / "disk").mkdir()
    try:
        resize("1m", first="")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no disk can be mounted here: {error}")
    try:
        yield resize
    finally:
        subprocess.run(["umount", "--lazy", "disk"], check=True, cwd=place)


NO_ROOM = r"error: [^\n]*(cannot be written|cannot write)[^\n]*No space left[^\n]*(make room|free some space)[^\n]*\n"


@pytest.mark.parametrize("size", ["4k", "8k", "16k"])
def test_a_full_disk_leaves_no_result(
    size: str, place: Path, small_disk: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    before = tree(place)
    small_disk(size)
    assert status("edit", place / "config.yaml", "output.dir=disk/new", "output.pngs=true") == 2
    assert re.fullmatch(NO_ROOM, capfd.readouterr().err)
    assert tree(place) == before


@pytest.mark.parametrize("size", ["4k", "8k", "12k", "16k", "20k", "28k", "36k"])
def test_of_an_inversion_a_full_disk_keeps_what_was_finished(
    size: str, place: Path, small_disk: Callable[[str], None], capfd: pytest.CaptureFixture[str]
) -> None:
    undisturbed = stored(place)
    before = set(tree(place))
    small_disk(size)
    assert status("edit", place / "config.yaml", "output.dir=new", "trajectories.dir=disk") == 2
    assert re.fullmatch(NO_ROOM, capfd.readouterr().err)
    folder = place / "disk" / undisturbed.name
    assert {path.name for path in folder.glob(".*")} <= {LOCK}
    assert {name for name in tree(place) if not name.startswith("disk/")} == before
    manifest = folder / "manifest.json"
    finished = json.loads(manifest.read_text())["parts"] if manifest.exists() else {}
    kept = {folder / name: (folder / name).stat().st_mtime_ns for name in finished}
    small_disk("10m")
    assert status("preprocess", place / "config.yaml", "trajectories.dir=disk") == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for path in undisturbed.glob("*.safetensors"):
        assert (folder / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("room", [500, 2_000, 4_000, 5_000])
@pytest.mark.parametrize("setting", ["output.dir", "trajectories.dir"])
def test_files_that_cannot_grow_are_a_full_disk_too(
    setting: str, room: int, place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where nothing can be mounted: the system refuses to let files grow past a limit, as it refuses on a full disk."""
    resource = pytest.importorskip("resource", reason="POSIX only")
    before = tree(place)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limit[1]))
        ended = status("edit", place / "config.yaml", f"{setting}=new", "edit.seed=1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert ended == 2
    assert re.fullmatch(
        r"error: [^\n]*(File too large)[^\n]*(make room|free some space)[^\n]*\n", capfd.readouterr().err
    )
    after = tree(place)
    assert {name: after.get(name) for name in before} == before
    assert not [name for name in after if "partial" in name or name.endswith(".part")]


@contextmanager
def without_rights(folder: Path, hidden: Path | None = None) -> Iterator[None]:
    """Root may do everything, so for a while we are somebody else, who may write nothing and read all but `hidden`."""
    paths = [folder, *folder.rglob("*")]
    for path in paths:
        path.chmod(0 if path == hidden else 0o555 if path.is_dir() else 0o444)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.fixture
def open_place(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """As `place`, where anyone may look: pytest's own folders are closed to all but their owner."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(finished, folder, dirs_exist_ok=True)
        config = Path(folder, "config.yaml")
        config.write_text(config.read_text().replace(f"{finished}/", ""))
        monkeypatch.chdir(folder)
        yield Path(folder)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], r"cannot write to out \(Permission denied\).*set output\.dir"),
        (["output.dir=new"], r"cannot write to new \(Permission denied\).*set output\.dir"),
        (["clip.prompt=other", "output.dir={free}"], r"cannot write to trajectories/clip-.*set trajectories\.dir"),
    ],
)
def test_where_nothing_may_be_written(
    overrides: list[str], said: str, open_place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = tree(open_place)
    with tempfile.TemporaryDirectory() as free:
        Path(free).chmod(0o777)
        with without_rights(open_place):
            ended = status("edit", open_place / "config.yaml", *[each.format(free=f"{free}/out") for each in overrides])
        assert list(Path(free).iterdir()) == []
    assert ended == 2
    shown = capfd.readouterr().err
    assert re.fullmatch(r"error: [^\n]+\n", shown), shown
    assert re.search(said, shown)
    assert tree(open_place) == before


def test_a_finished_inversion_is_used_where_it_may_only_be_read(open_place: Path) -> None:
    with tempfile.TemporaryDirectory() as free:
        Path(free).chmod(0o777)
        with without_rights(open_place):
            assert status("edit", open_place / "config.yaml", f"output.dir={free}/out") == 0


@pytest.mark.parametrize(
    ("hidden", "said"),
    [
        ("config.yaml", r"cannot read .*config\.yaml as YAML \(.*Permission denied"),
        ("clip.mp4", r"clip\.mp4 cannot be read \(Permission denied\)"),
        ("model/unet/config.json", r"the model .*Permission denied"),
        ("trajectories/*/manifest.json", r"manifest\.json cannot be read \(Permission denied\); set another traj"),
        ("trajectories/*/clean.safetensors", r"clean\.safetensors cannot be read"),
    ],
)
def test_what_may_not_be_read(hidden: str, said: str, open_place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (path,) = open_place.glob(hidden)
    with tempfile.TemporaryDirectory() as free:
        Path(free).chmod(0o777)
        with without_rights(open_place, path):
            ended = status("edit", open_place / "config.yaml", f"output.dir={free}/out")
        assert list(Path(free).iterdir()) == []
    assert ended == 2
    shown = capfd.readouterr().err
    assert re.fullmatch(r"error: [^\n]+\n", shown), shown
    assert re.search(said, shown), shown


def test_two_edits_into_one_folder_are_refused(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = tree(place)
    with locked(place / "out", pytest.fail):
        assert status("edit", place / "config.yaml") == 2
    assert re.fullmatch(r"error: another run is writing to out; wait [^\n]+\n", capfd.readouterr().err)
    assert tree(place) == before


@pytest.mark.filterwarnings("default")
def test_a_second_inversion_waits_for_the_first_and_says_so(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In real life the first is another process; a lock does not know the difference."""
    made = stored(place)
    waiting = place / "elsewhere" / made.name
    holding, done = threading.Event(), threading.Event()

    def first() -> None:
        with locked(waiting, pytest.fail):
            holding.set()
            done.wait(30)
            shutil.copytree(made, waiting, dirs_exist_ok=True)

    def notice_and_let_go(message: str, category: type[TokenflowWarning]) -> None:
        notice(message, category)
        done.set()

    monkeypatch.setattr("tokenflow.store.inversions.notice", notice_and_let_go)
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(first)
        assert holding.wait(30)
        assert status("preprocess", place / "config.yaml", "trajectories.dir=elsewhere") == 0
        working.result()
    said = capfd.readouterr().err
    assert said == f"warning: another run is making elsewhere/{made.name}; waiting for it to finish\n"
    assert tree(waiting) == tree(made)
