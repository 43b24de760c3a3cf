"""One edit of one drawn clip, made by `tokenflow.run` and kept on disk; and figures of the kept frames.

A cell is a JSON record and a PNG strip of its frames, named after everything that they depend on except the machine:
the source's frames, prompts, settings, models, code and packages. A cell that exists is not made again: an interrupted
benchmark continues where it stopped, and any change starts it over. Figures are computed from the frames each time,
since that is cheap.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import tokenflow
from benchmarks.clips import Case
from benchmarks.edges import edge_agreement
from benchmarks.output import write_json
from benchmarks.sampling import DTYPE, RATE
from benchmarks.truth import Truth
from tokenflow.config import Config
from tokenflow.diffusion.batches import as_images, as_tensor, batches
from tokenflow.metrics.scene_classifier import SceneClassifier, load_scene_classifier
from tokenflow.models.identity import path_fingerprint
from tokenflow.models.loading import load_model
from tokenflow.models.model import Model
from tokenflow.pipeline.reconstruction import LOSSLESS
from tokenflow.report import versions
from tokenflow.video import VideoWriter, read_frames
from tools.mini_sd.words import KINDS, Words

KEPT = Path("runs/cells")
MODELS = Path("data/models")
DIFFUSION, CONTROLNET, CLASSIFIER = (MODELS / name for name in ("mini-sd", "mini-controlnet-canny", "mini-classifier"))
BATCH = 8
CHANGES_NO_PIXEL = ("apps", "batch", "metrics", "report")
"""Parts of tokenflow that an edited frame does not depend on."""

NO_EXTRAS = {"comparison": False, "contact_sheet": False, "page": False}

Figures = dict[str, float | None]


@dataclass(frozen=True)
class Cell:
    """An edit of a clip with some settings.

    Attributes:
        case: the clip and the words to change.
        settings: what differs from tokenflow's defaults, as dotted keys below `edit`, such as `pnp.features_until`.
        checked: keep the reconstruction, too.
    """

    case: Case
    settings: tuple[tuple[str, Any], ...]
    checked: bool = False

    @property
    def mode(self) -> str:
        """pnp, sdedit or controlnet."""
        return dict(self.settings)["mode"]

    @cached_property
    def path(self) -> Path:
        """The record's; the frames are beside it."""
        truth = self.case.truth
        depends_on = [_source_path(self.case).name, truth.prompts, self.settings, self.checked]
        depends_on += [_made_by(), path_fingerprint(str(DIFFUSION))]
        if self.mode == "controlnet":
            depends_on.append(path_fingerprint(str(CONTROLNET)))
        digest = hashlib.sha256(repr(depends_on).encode()).hexdigest()[:12]
        return KEPT / f"{self.case.name}.{self.mode}.{digest}.json"

    @property
    def done(self) -> bool:
        """Whether it was made before."""
        return self.path.is_file()

    def record(self) -> dict[str, Any]:
        """What was kept of the edit beside its frames."""
        return json.loads(self.path.read_text())

    def images(self) -> np.ndarray:
        """The edited frames, f H W 3 uint8."""
        return _read_strip(self.path.with_suffix(".png"))

    def reconstruction(self) -> np.ndarray:
        """The inversion sampled back, f H W 3 uint8; of checked cells only."""
        return _read_strip(self._reconstruction)

    @property
    def _reconstruction(self) -> Path:
        return self.path.with_suffix(".reconstruction.png")

    def make(self) -> None:
        """Edit the clip (inverting it first, unless an earlier cell has) and keep the result."""
        folder = self.path.with_suffix("")
        result = tokenflow.run(self._config(folder), model=diffusion())
        _write_strip(self.path.with_suffix(".png"), result.frames)
        kept = {key: result.report[key] for key in ("seconds", "stage_peak_memory_mb")}
        if self.checked:
            video = _trajectories() / result.report["inversion"]["folder"] / LOSSLESS
            _write_strip(self._reconstruction, np.stack([frame.image for frame in read_frames(video)]))
            kept["reconstruction"] = result.report["metrics"]["reconstruction"]
        write_json(self.path, {"clip": self.case.clip, "edit": self.case.edit, "settings": dict(self.settings), **kept})
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()

    def _config(self, folder: Path) -> Config:
        source, target = self.case.truth.prompts
        edit: dict[str, Any] = {"prompt": target, "batch_size": BATCH}
        for key, value in self.settings:
            place = edit
            *sections, name = key.split(".")
            for section in sections:
                place = place.setdefault(section, {})
            place[name] = value
        return Config.model_validate(
            {
                "clip": {"path": _source(self.case), "prompt": source},
                "model": {"path": str(DIFFUSION), "dtype": DTYPE},
                "inversion": {"check": self.checked},
                "edit": edit,
                "output": {"dir": folder, "container": "mkv", "codec": "ffv1", **NO_EXTRAS},
                "metrics": {"enabled": False},
                "trajectories": {"dir": _trajectories()},
            }
        )


@cache
def diffusion() -> Model:
    """The small model, loaded once."""
    return load_model(str(DIFFUSION), dtype=DTYPE)


@cache
def classifier() -> SceneClassifier | None:
    """The network that recognises the words of an image, or None if it is missing."""
    return load_scene_classifier(CLASSIFIER) if (CLASSIFIER / "config.json").is_file() else None


def can_run(mode: str) -> bool:
    """Whether everything that a mode needs is there."""
    return mode != "controlnet" or (CONTROLNET / "config.json").is_file()


def figures(truth: Truth, images: np.ndarray) -> Figures:
    """All figures of an edit (f H W 3 uint8) against its ground truth, and its agreement with the prompt."""
    perfect = (truth.perfect * 255).round().astype(np.uint8)
    return {
        **truth.figures(images),
        **truth.figures_by_place(images),
        **edge_agreement(images, perfect, truth.target.masks()),
        **agreement(truth, images),
    }


def agreement(truth: Truth, images: np.ndarray) -> Figures:
    """The fraction of frames in which the classifier sees what the prompt says; None without a classifier.

    `agreement`: all words that the edit changes. `agreement_kept`: the words that it leaves, on average.
    """
    network = classifier()
    if network is None:
        return {"agreement": None, "agreement_kept": None}
    wanted = truth.target.start.words
    with torch.no_grad():
        seen = {kind: logits.argmax(1).numpy() for kind, logits in network(as_tensor(images)).items()}
    right = {kind: seen[kind] == _index(network.kinds, kind, wanted) for kind in KINDS}
    return {
        "agreement": float(np.all([right[kind] for kind in truth.changed], axis=0).mean()),
        "agreement_kept": float(np.mean([right[kind] for kind in KINDS if kind not in truth.changed])),
    }


def floor(case: Case) -> np.ndarray:
    """The perfect edit through the autoencoder, f H W 3 uint8: as close to it as this model can be expected to come."""
    perfect = as_tensor((case.truth.perfect * 255).round().astype(np.uint8))
    groups = [perfect[group] for group in batches(range(len(perfect)), BATCH)]
    return np.concatenate([as_images(diffusion().decode(diffusion().encode(group))) for group in groups])


def _trajectories() -> Path:
    """Where the inversions of all cells are stored."""
    return KEPT / f"trajectories-{_made_by()}"


def _index(kinds: Mapping[str, Any], kind: str, words: Words) -> int:
    return list(kinds[kind]).index(getattr(words, kind))


def _source(case: Case) -> Path:
    """The clip as a lossless video, written unless an earlier cell has."""
    path = _source_path(case)
    if not path.is_file():
        frames = case.truth.frames
        height, width = frames.shape[1:3]
        with VideoWriter(path, width=width, height=height, rate=RATE, codec="ffv1") as video:
            for frame in frames:
                video.write(frame)
    return path


def _source_path(case: Case) -> Path:
    """Named after the frames themselves, so that no old video is used when the renderer changes."""
    frames = case.truth.frames
    digest = hashlib.sha256(repr((RATE, frames.shape)).encode() + frames.tobytes()).hexdigest()[:12]
    return KEPT / "clips" / f"{case.clip}-{digest}.mkv"


@cache
def _made_by() -> str:
    """Eight hex digits that change with what all cells depend on: code, precision and packages."""
    package = Path(tokenflow.__file__).parent
    files = [
        file
        for file in sorted(package.rglob("*.py"))
        if file.relative_to(package).parts[0].removesuffix(".py") not in CHANGES_NO_PIXEL
    ]
    code = [(str(file.relative_to(package)), file.read_bytes()) for file in files]
    packages = {**versions(), "tokenflow": None}  # its code counts, not its version
    depends_on = [code, inspect.getsource(Cell), BATCH, DTYPE, packages]
    return hashlib.sha256(repr(depends_on).encode()).hexdigest()[:8]


def _write_strip(path: Path, frames: np.ndarray) -> None:
    """All frames in a row, in a file that appears complete or not at all."""
    temporary = path.with_suffix(".partial")
    Image.fromarray(np.concatenate(list(frames), axis=1)).save(temporary, "png")
    temporary.replace(path)


def _read_strip(path: Path) -> np.ndarray:
    strip = np.asarray(Image.open(path))
    side = strip.shape[0]
    return np.stack(np.split(strip, strip.shape[1] // side, axis=1))
