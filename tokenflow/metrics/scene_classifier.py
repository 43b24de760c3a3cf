"""A small convolutional network that tells which words of a closed vocabulary an image shows.

classifier = load_scene_classifier("data/models/mini-classifier")
logits = classifier(images)            # b 3 H W in [0,1]; a dict: kind -> b words
classifier.kinds["object"]             # the words, in the order of the logits
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

WIDTHS = (24, 48, 96, 128, 192)


class SceneClassifier(nn.Module):
    """Five strided convolutions, mean and maximum over what is left of the image, and one linear head per kind."""

    def __init__(self, kinds: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.kinds = kinds
        layers: list[nn.Module] = []
        for before, after in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
        layers += [nn.Conv2d(WIDTHS[-1], WIDTHS[-1], 3, padding=1), nn.GroupNorm(8, WIDTHS[-1]), nn.SiLU()]
        self.features = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({kind: nn.Linear(2 * WIDTHS[-1], len(words)) for kind, words in kinds.items()})

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images b 3 H W in [0,1] to logits, b words for each kind."""
        features = self.features(images * 2 - 1)
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        return {kind: head(pooled) for kind, head in self.heads.items()}


def load_scene_classifier(folder: str | Path) -> SceneClassifier:
    """The network in a folder with config.json and model.safetensors, ready to classify.

    Raises:
        OSError, ValueError, KeyError, RuntimeError: the folder does not hold one.
    """
    kinds = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))["kinds"]
    network = SceneClassifier(kinds)
    network.load_state_dict(
        {name: value.float() for name, value in load_file(Path(folder) / "model.safetensors").items()}
    )
    return network.eval()
