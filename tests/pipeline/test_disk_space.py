"""The estimate of disk space, beside what is written for the bundled clips."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tokenflow.config import Config
from tokenflow.diffusion.batches import as_images, as_tensor, batches
from tokenflow.metrics import EditMetrics
from tokenflow.models.loading import load_model
from tokenflow.models.model import Model
from tokenflow.pipeline.disk_space import dimensions, disk_space, sheet_bytes
from tokenflow.pipeline.frames import EditedFrame
from tokenflow.pipeline.job import run
from tokenflow.pipeline.output import ResultWriter, write_reports, write_sheet
from tokenflow.report import sheet_frames
from tokenflow.report.units import format_bytes
from tokenflow.video import Video, resize, restore

DATA = Path(__file__).parents[2] / "data"
EDITS = {
    "dog_walk": "dog_walk.perfect_tiger",
    "cat_walk": "cat_walk.perfect_marble_cat",
    "car_drive": "car_drive.perfect_bus",
    "wolf": "wolf",
}
"""Clips, and clips that stand for their edits; those of drawn clips once the model's autoencoder has decoded them."""


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(DATA / "models" / "mini-sd", device="cpu")


def configured(clip: str, tmp_path: Path, **output: object) -> Config:
    return Config.model_validate(
        {
            "clip": {"path": DATA / "clips" / f"{clip}.mp4", "prompt": "a dog on grass, 3d style"},
            "model": {"path": str(DATA / "models" / "mini-sd")},
            "edit": {"prompt": "a tiger on grass, 3d style"},
            "output": {"dir": tmp_path / "out", **output},
        }
    )


def decoded(frames: np.ndarray, model: Model) -> np.ndarray:
    groups = [as_tensor(frames[group]) for group in batches(range(len(frames)), 8)]
    return np.concatenate([as_images(model.decode(model.encode(group))) for group in groups])


def write_result(config: Config, edit: str, folder: Path, model: Model) -> int:
    """Bytes of a result folder in which another clip stands for the edit."""
    video = Video.read(config.clip.path)
    read = list(video)
    _, width, height = dimensions(config)
    frames = np.stack([resize(each.image, width, height) for each in read])
    stand_ins = np.stack([resize(each.image, width, height) for each in Video.read(DATA / "clips" / f"{edit}.mp4")])
    edited = stand_ins if edit == "wolf" else decoded(stand_ins, model)
    metrics = EditMetrics(iter(frames))
    times, end = [each.source_time for each in read], read[-1].source_time + read[-1].duration
    labels = config.clip.prompt, config.edit.prompt
    folder.mkdir()
    with ResultWriter(folder, config.output, video, frames, times, end, "fit", labels) as writer:
        for source, image in zip(frames, edited, strict=False):
            writer.write(EditedFrame(image, restore(image, *video.size, "fit")))
            metrics.add(source, image)
    figures = dict.fromkeys(("autoencoder_psnr", "inversion_psnr", "autoencoder_ssim", "inversion_ssim"), 30.0)
    content = {
        "settings": config.model_dump(mode="json"),
        "frames": len(frames),
        "metrics": {"reconstruction": figures, **metrics.figures()},
        "over_time": metrics.over_time(),
        "versions": {"torch": "2"},
        "seconds": {"edit": 1.0},
        "peak_memory_mb": 1,
        "stage_peak_memory_mb": {"edit": 1},
    }
    write_reports(folder, config, content)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("clip", EDITS)
def test_a_result_takes_what_was_estimated_within_a_fifth(clip: str, tmp_path: Path, model: Model) -> None:
    config = configured(clip, tmp_path)
    assert disk_space(config).result == pytest.approx(
        write_result(config, EDITS[clip], tmp_path / "result", model), rel=0.2
    )


def test_what_is_switched_off_takes_no_space(tmp_path: Path, model: Model) -> None:
    off = configured("dog_walk", tmp_path, comparison=False, contact_sheet=False, page=False)
    taken = write_result(off, EDITS["dog_walk"], tmp_path / "result", model)
    assert taken < disk_space(off).result < 4 * taken < disk_space(configured("dog_walk", tmp_path)).result


def test_steps_add_latents_to_the_inversion(tmp_path: Path) -> None:
    config = configured("dog_walk", tmp_path)
    frames, width, height = dimensions(config)
    assert (frames, width, height) == (24, 128, 128)
    more = config.model_copy(update={"inversion": config.inversion.model_copy(update={"steps": 26})})
    numbers = 24 * 4 * (128 // 4) * (128 // 4)
    assert disk_space(more).inversion - disk_space(config).inversion == 2 * numbers  # in float16
    space = disk_space(config)
    assert space.scratch == 4 * 4 * numbers + space.flow


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999 bytes"), (1234, "1.23 kB"), (6.14e6, "6.14 MB"), (2e12, "2 TB")]
)
def test_bytes_have_three_digits_and_a_unit(count: float, text: str) -> None:
    assert format_bytes(count) == text


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "a region by mask": {"regions": [{"mask": "mask.png"}]},
    "a reference": {"references": [{"path": "mask.png"}]},
    "another mode": {"mode": "sdedit"},
    "no propagation": {"propagation": "none"},
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_run_leaves_is_what_was_estimated_within_a_tenth(
    case: str, tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together: the inversion, the flow that stays with it, and the result."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.pad(np.full((48, 64), 255, np.uint8), ((40, 40), (32, 32)))).save("mask.png")
    config = configured("dog_walk", tmp_path)
    config = Config.model_validate(
        {
            **config.model_dump(),
            "clip": {**config.clip.model_dump(), "frames": 8, "cuts": []},
            "inversion": {"steps": 3, "warn_below_psnr": 0},
            "edit": {"prompt": "a tiger on grass, 3d style", "steps": 3, **CASES[case]},
            "trajectories": {"dir": tmp_path / "store"},
        }
    )
    space = disk_space(config)
    run(config, model=model)
    (stored,) = (tmp_path / "store").iterdir()
    flow = sum(path.stat().st_size for path in stored.glob("*.pairs"))
    files = {folder: [path for path in folder.rglob("*") if path.is_file()] for folder in (stored, config.output.dir)}
    left = {folder: sum(path.stat().st_size for path in found) for folder, found in files.items()}
    assert space.flow == pytest.approx(flow, rel=0.02)
    assert space.inversion == pytest.approx(left[stored] - flow, rel=0.1)
    expected = space.inversion + space.flow + space.result
    assert sum(left.values()) == pytest.approx(expected, rel=0.1)


def test_the_sheet_of_seeds_takes_what_was_estimated_within_a_fifth(tmp_path: Path, model: Model) -> None:
    config = configured("dog_walk", tmp_path)
    clip, edit = (
        np.stack([each.image for each in Video.read(DATA / "clips" / f"{name}.mp4")])
        for name in ("dog_walk", EDITS["dog_walk"])
    )
    shown = sheet_frames(len(clip))
    edited = list(decoded(edit[shown], model))
    path = tmp_path / "seeds.png"
    write_sheet(path, {"source": list(clip[shown]), "first": edited, "second": edited})
    assert sheet_bytes(config, 3) == pytest.approx(path.stat().st_size, rel=0.2)
