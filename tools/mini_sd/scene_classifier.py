"""A small convolutional network that tells what a picture shows. Needs torch and safetensors.

classifier = load_scene_classifier("data/models/mini-classifier")
logits = classifier(pictures)          # b 3 H W in [0,1]; a dict: kind -> b words
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
    """Five strided convolutions, a mean over what is left of the picture, and one linear head a kind of word."""

    def __init__(self, kinds: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.kinds = kinds
        layers: list[nn.Module] = []
        for before, after in zip((3, *WIDTHS), WIDTHS, strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
        layers += [nn.Conv2d(WIDTHS[-1], WIDTHS[-1], 3, padding=1), nn.GroupNorm(8, WIDTHS[-1]), nn.SiLU()]
        self.features = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({kind: nn.Linear(2 * WIDTHS[-1], len(words)) for kind, words in kinds.items()})

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        """Pictures b 3 H W in [0,1] to logits, b words for each kind."""
        features = self.features(pictures * 2 - 1)
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        return {kind: head(pooled) for kind, head in self.heads.items()}


def load_scene_classifier(folder: str | Path) -> SceneClassifier:
    """The network in a folder with config.json and model.safetensors, ready to classify."""
    kinds = json.loads((Path(folder) / "config.json").read_text())["kinds"]
    network = SceneClassifier(kinds)
    network.load_state_dict(
        {name: value.float() for name, value in load_file(Path(folder) / "model.safetensors").items()}
    )
    return network.eval()
