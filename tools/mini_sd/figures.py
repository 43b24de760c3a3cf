"""Figures of models that ship: measured, printed with what each should reach, and kept beside the models."""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tokenflow.metrics.scene_classifier import load_scene_classifier
from tools.mini_sd.captions import caption
from tools.mini_sd.classifier import agreement
from tools.mini_sd.export import MODELS
from tools.mini_sd.reconstruction import HELD_OUT
from tools.mini_sd.scene import Scene, render, sample_scene
from tools.mini_sd.training import choose_device
from tools.mini_sd.words import DIRECTIONS

FIGURES = "figures.json"
"""Beside the models and not in one of them, whose files say which model an inversion was made with."""

CLASSIFIER = "mini-classifier"
PATCH = 16
FLAT_SHARE = 0.3

Measure = Callable[[Path, int, torch.device], dict[str, float]]
"""Figures by name, from the folder of all models, the number of pictures to generate, and a device."""


def held_out_scenes(count: int, offset: int = 0) -> list[Scene]:
    """Scenes from seeds that no stage trains on."""
    rng = np.random.default_rng((HELD_OUT, offset))
    return [sample_scene(rng) for _ in range(count)]


def generated_figures(
    name: str, generate: Callable[[list[str]], np.ndarray], models: Path, count: int
) -> dict[str, float]:
    """How often the classifier sees in a generated picture what the prompt says, and how mottled pictures are.

    Agreement on the object is told for each way that it faces, which prompts leave open. Mottle is relative to drawn
    scenes of the same words.

    Args:
        name: what the figures' names begin with.
        generate: prompts to pictures f H W 3 in [0,1].
        models: the folder of all models.
        count: of pictures.
    """
    scenes = held_out_scenes(count, offset=1)
    pictures = generate([caption(scene.words) for scene in scenes])
    batch, labels = to_batch(pictures), torch.tensor([scene.words.indices for scene in scenes])
    network = load_scene_classifier(models / CLASSIFIER)
    figures = {f"{name}, {kind}": share for kind, share in agreement(network, batch, labels).items()}
    with torch.no_grad():
        faces = network(batch)["direction"].argmax(dim=1)
    for place, direction in enumerate(DIRECTIONS):
        these = faces == place
        figures[f"{name}, share that faces {direction}"] = float(these.float().mean())
        if these.any():
            figures[f"{name}, object that faces {direction}"] = agreement(network, batch[these], labels[these])[
                "object"
            ]
    drawn = np.stack([render(scene).picture for scene in scenes])
    return figures | {f"{name}, mottle": mottle(pictures) / mottle(drawn)}


def to_batch(pictures: np.ndarray) -> Tensor:
    """f H W 3 to f 3 H W."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2)


def mottle(pictures: np.ndarray) -> float:
    """Total variation of what is flat in pictures f H W 3: mean difference of neighbours in their flattest patches.

    These are the FLAT_SHARE of each picture's patches of PATCH pixels that vary the least: skies, walls, ground.
    """
    across = np.abs(np.diff(pictures, axis=2)).mean(axis=3)[:, :-1]  # f H-1 W-1
    down = np.abs(np.diff(pictures, axis=1)).mean(axis=3)[:, :, :-1]
    variation = ((across + down) / 2)[:, : PATCH * (across.shape[1] // PATCH), : PATCH * (across.shape[2] // PATCH)]
    frames, height, width = variation.shape
    patches = variation.reshape(frames, height // PATCH, PATCH, width // PATCH, PATCH).mean(axis=(2, 4))
    ordered = np.sort(patches.reshape(frames, -1), axis=1)
    return float(ordered[:, : round(FLAT_SHARE * ordered.shape[1])].mean())


def megabytes(*folders: Path) -> float:
    """What the files of some folders take."""
    return sum(file.stat().st_size for folder in folders for file in folder.rglob("*") if file.is_file()) / 1e6


def reached(value: float, goal: float | None) -> str:
    """A word on a figure against its goal: at least, or at most where the sign is negative."""
    if goal is None:
        return ""
    good = value >= goal if goal > 0 else value <= -goal
    return f"{'reached' if good else 'MISSED'} ({'at least' if goal > 0 else 'at most'} {abs(goal):g})"


def measure(description: str | None, measures: Mapping[str, Measure], goals: Mapping[str, float]) -> None:
    """The command of an `evaluate` stage: measures, prints and writes figures.

    Args:
        description: of the command.
        measures: groups of figures.
        goals: what figures should reach, by their names.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--count", type=int, default=192, help="generated pictures; other figures use as many or fewer")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--write", action="store_true", help=f"keep what was measured in {FIGURES} beside the models")
    parser.add_argument("--measure", nargs="*", default=list(measures), choices=list(measures))
    arguments = parser.parse_args()
    device, figures = choose_device(arguments.device), {}
    for group in arguments.measure:
        for name, value in measures[group](arguments.models, arguments.count, device).items():
            figures[name] = value
            print(f"{name:70} {value:8.3f}  {reached(value, goals.get(name))}", flush=True)
    if arguments.write:
        file = arguments.models / FIGURES
        kept = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps(kept | figures, indent=2) + "\n")
