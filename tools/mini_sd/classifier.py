"""Stage: trains the network that tells object, material, style, background and light of a picture.

The quality figures are measured with it. `scene_classifier.py` beside the written weights is all that is needed to
load it.
"""

from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from tokenflow.metrics.scene_classifier import SceneClassifier
from tools.mini_sd.autoencoder import HELD_OUT
from tools.mini_sd.scene import render, sample_scene
from tools.mini_sd.training import Progress, Run, choose_device, load_averages, stage_arguments
from tools.mini_sd.words import KINDS


def load_classifier(runs: Path, device: torch.device) -> SceneClassifier:
    """The averaged weights of the last checkpoint."""
    network = SceneClassifier(KINDS)
    load_averages(runs / "classifier", {"classifier": network})
    return network.eval().to(device)


def labelled_scenes(rng: np.random.Generator, count: int, damaged: bool) -> tuple[Tensor, Tensor]:
    """Pictures count 3 H W in [0,1] and their words count 5; damaged as a generated picture may be."""
    scenes = [sample_scene(rng) for _ in range(count)]
    pictures = [render(scene).picture for scene in scenes]
    if damaged:
        pictures = [damage(picture, rng) for picture in pictures]
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return batch, torch.tensor([scene.words.indices for scene in scenes])


def damage(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mild blur, blotches, noise and changes of brightness."""
    size = picture.shape[0]
    if rng.random() < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.3, 1.6))
    if rng.random() < 0.5:
        coarse = rng.normal(0, rng.uniform(0, 0.08), (size // 8, size // 8, 3)).astype(np.float32)
        picture = picture + cv2.resize(coarse, (size, size), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        picture = picture + rng.normal(0, rng.uniform(0, 0.05), picture.shape).astype(np.float32)
    return np.clip(picture * np.float32(rng.uniform(0.92, 1.08)), 0, 1)


@torch.no_grad()
def agreement(network: SceneClassifier, pictures: Tensor, words: Tensor) -> dict[str, float]:
    """Share of pictures (b 3 H W) in which the network sees the given words (b 5), for each kind."""
    device = next(network.parameters()).device
    seen = network(pictures.to(device))
    return {
        kind: float((seen[kind].argmax(dim=1).cpu() == words[:, place]).float().mean())
        for place, kind in enumerate(KINDS)
    }


def main() -> None:
    """Trains, then prints the accuracy on scenes never trained on."""
    arguments = stage_arguments(__doc__, steps=2500, batch=64, rate=2e-3).parse_args()
    device = choose_device(arguments.device)
    torch.manual_seed(arguments.seed)
    network = SceneClassifier(KINDS).to(device).train()
    run = Run(arguments.runs / "classifier", {"classifier": network}, arguments.steps, arguments.rate, 0.99)
    progress = Progress(run.steps)
    for step in run.loop(arguments.save_minutes):
        pictures, words = labelled_scenes(
            np.random.default_rng((2, arguments.seed, step)), arguments.batch, damaged=True
        )
        with torch.autocast(device.type, torch.bfloat16):
            seen = network(pictures.to(device))
        losses = [F.cross_entropy(seen[kind].float(), words[:, i].to(device)) for i, kind in enumerate(KINDS)]
        loss = torch.stack(losses).sum()
        run.descend(loss)
        progress.report(step, loss=loss.item())
    network = load_classifier(arguments.runs, device)
    for damaged in (False, True):
        pictures, words = labelled_scenes(np.random.default_rng(HELD_OUT), 1000, damaged)
        shares = agreement(network, pictures, words)
        print("damaged" if damaged else "clean", {kind: f"{share:.1%}" for kind, share in shares.items()})


if __name__ == "__main__":
    main()
