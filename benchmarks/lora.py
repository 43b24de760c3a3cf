"""`make lora`: what a LoRA of an object that the model never saw does to edits, and to other prompts.

    python -m benchmarks.lora [--steps N]

Trains on eight drawings (`tokenflow train-lora`), and edits a clip with and without the LoRA. A frame shows
the object if, by the features of the classifier beside the model, the nearest of held-out drawings is one of it, among
drawings of it and of all known objects before the clip's own background. Agreement is measured on images of known
prompts. Writes benchmarks/results/lora.json.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import tokenflow
from benchmarks.output import rows_table, write_json
from benchmarks.sampling import RATE
from tokenflow.config import load_training
from tokenflow.diffusion.batches import as_tensor
from tokenflow.metrics.scene_classifier import SceneClassifier, load_scene_classifier
from tokenflow.models.model import Model
from tokenflow.pipeline.lora.training import train_lora
from tokenflow.report import versions
from tools.mini_sd.autoencoder import HELD_OUT
from tools.mini_sd.build_clips import CLIPS
from tools.mini_sd.captions import caption
from tools.mini_sd.clip import Clip
from tools.mini_sd.scene import Scene, render, sample_scene
from tools.mini_sd.words import BACKGROUNDS, KINDS, MATERIALS, OBJECTS, PLAIN, STYLES, UNSEEN, Words

RESULTS = Path("benchmarks/results/lora.json")
FOLDER = Path("runs/lora")
MODEL = "data/models/mini-sd"
CLASSIFIER = "data/models/mini-classifier"
OBJECT = UNSEEN[0]
DRAWINGS = 8
REFERENCES = 12
"""Held-out drawings of each object before each clip's background."""
STYLE = "3d"
EDITED = "dog_walk"
EVERY = 2
"""Every so many frames of the clip are edited."""
MODES: dict[str, Any] = {
    "pnp": tokenflow.PnP(features_until=0.4, attention_until=0.3),
    "sdedit": tokenflow.SDEdit(strength=0.92),
}
KEPT = tuple(
    caption(Words(name, MATERIALS[index % 2 * (index // 2 % 4 + 1)], STYLES[index // 3 % 2], BACKGROUNDS[index % 8]))
    for index, name in enumerate(OBJECTS)
)
"""A prompt of each known object, half of them plain, in both styles, before all backgrounds."""


def scenes(seed: int, count: int, **words: str) -> list[Scene]:
    """Plain scenes by day in some words, none of which was trained on."""
    rng = np.random.default_rng((HELD_OUT, seed))
    return [sample_scene(rng).with_words(material=PLAIN, style=STYLE, light="day", **words) for _ in range(count)]


def pictures(drawn: list[Scene]) -> np.ndarray:
    """f H W 3 uint8."""
    return np.stack([(render(scene).picture * 255).round().astype(np.uint8) for scene in drawn])


def write_drawings(folder: Path) -> Path:
    """The drawings to learn from, each with its caption beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = scenes(1, DRAWINGS, object=OBJECT)
    for index, (scene, picture) in enumerate(zip(drawn, pictures(drawn), strict=True)):
        Image.fromarray(picture).save(folder / f"{index}.png")
        (folder / f"{index}.txt").write_text(caption(scene.words), encoding="utf-8")
    return folder


@torch.no_grad()
def features(network: SceneClassifier, images: np.ndarray) -> Tensor:
    """Unit features f d of images f H W 3 uint8: what the classifier's heads see."""
    maps = network.features(as_tensor(images) * 2 - 1)
    return F.normalize(torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1), dim=1)


def shown(network: SceneClassifier, clip: Clip, frames: np.ndarray) -> float:
    """The share of frames whose nearest drawing is one of the object."""
    names = (*OBJECTS, OBJECT)
    references = torch.stack(
        [
            features(network, pictures(scenes(2, REFERENCES, object=name, background=clip.start.words.background)))
            for name in names
        ]
    )  # o r d
    similarity = torch.einsum("fd,ord->for", features(network, frames), references).amax(dim=2)  # f o
    return float((similarity.argmax(dim=1) == len(names) - 1).float().mean())


@torch.no_grad()
def agreement(network: SceneClassifier, model: Model, count: int) -> float:
    """The share of images of known prompts in which the classifier sees object and background."""
    drawn = [sample_scene(np.random.default_rng((HELD_OUT, 3, index))) for index in range(count)]
    right = 0
    for index, scene in enumerate(drawn):
        image = tokenflow.generate(model, caption(scene.words), seed=index)
        logits = network(as_tensor(image))
        right += all(
            KINDS[kind][int(logits[kind].argmax())] == getattr(scene.words, kind) for kind in ("object", "background")
        )
    return right / count


def rows(network: SceneClassifier, models: dict[str, Model], folder: Path) -> Iterator[dict[str, Any]]:
    """A row per mode and model."""
    clip = CLIPS[EDITED]
    frames = (clip.pictures()[::EVERY] * 255).round().astype(np.uint8)
    prompt = caption(clip.with_words(object=OBJECT).start.words)
    inverted = tokenflow.invert(
        tokenflow.Video(frames, rate=RATE / EVERY), models["without"], caption(clip.start.words)
    )
    for mode, settings in MODES.items():
        for label, model in models.items():
            edited = tokenflow.edit(replace(inverted, model=model), prompt, mode=settings)
            Image.fromarray(np.hstack(edited.frames[::3])).save(folder / f"{mode}-{label}.png")
            yield {"mode": mode, "LoRA": label, "shown": shown(network, clip, edited.frames)}


def training(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings of the training."""
    return {
        "model": {"path": MODEL, "device": arguments.device, "dtype": "float32"},
        "images": str(write_drawings(folder / "drawings")),
        "caption": f"a {OBJECT}, {STYLE} style",
        "output": str(folder / "trained"),
        "steps": arguments.steps,
        "learning_rate": arguments.rate,
        "rank": arguments.rank,
        "batch_size": 3,
        "layers": arguments.layers,
        "samples": [f"a {OBJECT} on grass, 3d style", "a golden horse on sand, 3d style"],
        "keep": [*KEPT],
        "keep_images": 1,
    }


def main() -> None:
    """Trains, measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--layers", default="all")
    parser.add_argument("--prompts", type=int, default=96, help="images of known prompts")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = training(arguments.folder, arguments)
    start = time.perf_counter()
    trained = train_lora(load_training(settings, [], name="benchmark"))
    seconds = time.perf_counter() - start
    lora = tokenflow.LoRA(path=str(trained.file), triggers=(OBJECT,))
    models = {
        label: tokenflow.load_model(MODEL, device=arguments.device, dtype="float32", loras=loras)
        for label, loras in {"without": [], "with": [lora]}.items()
    }
    network = load_scene_classifier(CLASSIFIER)
    measured = list(rows(network, models, arguments.folder))
    print(rows_table(measured), flush=True)
    known = {label: agreement(network, model, arguments.prompts) for label, model in models.items()}
    print(known, f"{seconds:.0f} s of training")
    content = {"training": settings, "seconds": seconds, "known prompts": known, "edits": measured}
    write_json(arguments.results, content | {"versions": versions()})


if __name__ == "__main__":
    main()
