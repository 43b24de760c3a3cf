"""Stage: trains the network that tells what a picture shows: its words, and which way the object faces.

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
from tools.mini_sd.drawing import draw_ahead
from tools.mini_sd.gradients import Gradients
from tools.mini_sd.reconstruction import HELD_OUT
from tools.mini_sd.scene import render, sample_scene
from tools.mini_sd.training import Progress, Run, choose_device, load_averages, stage_arguments
from tools.mini_sd.words import LABELS


def load_classifier(runs: Path, device: torch.device) -> SceneClassifier:
    """The averaged weights of the last checkpoint."""
    network = SceneClassifier(LABELS)
    load_averages(runs / "classifier", {"classifier": network})
    return network.eval().to(device)


class Batches:
    """The damaged pictures of each step and their labels: a function of seed and step."""

    def __init__(self, seed: int, count: int) -> None:
        self.seed, self.count = seed, count

    def __call__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Scenes drawn for this step alone."""
        pictures, labels = labelled_scenes(np.random.default_rng((2, self.seed, step)), self.count, damaged=True)
        return pictures.numpy(), labels.numpy()


def labelled_scenes(rng: np.random.Generator, count: int, damaged: bool) -> tuple[Tensor, Tensor]:
    """Pictures count 3 H W in [0,1] and their labels count 7; damaged as a generated picture may be."""
    scenes = [sample_scene(rng) for _ in range(count)]
    pictures = [render(scene).picture for scene in scenes]
    if damaged:
        pictures = [damage(picture, rng) for picture in pictures]
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return batch, torch.tensor([scene.labels for scene in scenes])


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
def agreement(network: SceneClassifier, pictures: Tensor, labels: Tensor) -> dict[str, float]:
    """Share of pictures (b 3 H W) in which the network sees the given labels, for each kind.

    labels: b n, of all of words.LABELS, or of its first n kinds.
    """
    device = next(network.parameters()).device
    seen = network(pictures.to(device))
    return {
        kind: float((seen[kind].argmax(dim=1).cpu() == wanted).float().mean())
        for kind, wanted in zip(LABELS, labels.T, strict=False)
    }


def main() -> None:
    """Trains, then prints the accuracy on scenes never trained on."""
    parser = stage_arguments(__doc__, steps=2500, batch=64, rate=2e-3)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw; with a GPU, nearly all cores")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    torch.manual_seed(arguments.seed)
    network = SceneClassifier(LABELS).to(device).train()
    run = Run.of(arguments, "classifier", {"classifier": network}, 0.99)
    batches = Batches(arguments.seed, arguments.batch)
    drawn = draw_ahead(batches, range(run.step, run.steps), arguments.workers)
    progress = Progress(run.steps)

    def loss_of(pictures: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            seen = network(pictures)
        losses = [F.cross_entropy(seen[kind].float(), labels[:, place]) for place, kind in enumerate(LABELS)]
        return torch.stack(losses).sum()

    gradients = Gradients(loss_of, run.parameters())
    for step in run.loop(arguments.save_minutes):
        loss = gradients(*map(torch.from_numpy, next(drawn)))
        run.descend()
        progress.report(step, loss=loss)
    network = load_classifier(arguments.runs, device)
    for damaged in (False, True):
        pictures, labels = labelled_scenes(np.random.default_rng(HELD_OUT), 1000, damaged)
        shares = agreement(network, pictures, labels)
        print("damaged" if damaged else "clean", {kind: f"{share:.1%}" for kind, share in shares.items()})


if __name__ == "__main__":
    main()
