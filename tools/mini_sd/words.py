"""What the small model knows: the closed vocabulary of its scenes.

Knows no sentence (captions.py) and no picture (scene.py).
"""

from dataclasses import dataclass

import numpy as np

ANIMALS = (
    "cat", "dog", "tiger", "leopard", "horse", "cow", "pig", "elephant", "zebra", "camel", "rhino", "bison",
    "sheep", "deer", "giraffe", "hippo",
)  # fmt: skip
VEHICLES = ("car", "bus", "tractor", "taxi", "ambulance", "fire engine", "police car", "pickup truck")
OBJECTS = ANIMALS + VEHICLES
UNSEEN = ("sauropod",)
"""Objects that can be drawn and are in no training: what a LoRA is measured with."""
PLAIN = "plain"
MATERIALS = (PLAIN, "marble", "golden", "silver", "jade")
STYLES = ("flat", "3d")
BACKGROUNDS = ("grass", "sand", "snow", "the sea", "a road", "a wooden floor", "the moon", "a brick wall")
DAY = "day"
LIGHTS = (DAY, "night", "sunset")


@dataclass(frozen=True)
class Words:
    """One choice of each kind. `plain` and `day` are what a sentence leaves unsaid."""

    object: str
    material: str = PLAIN
    style: str = "3d"
    background: str = "grass"
    light: str = DAY

    def __post_init__(self) -> None:
        for kind, known in KINDS.items():
            word = getattr(self, kind)
            if word not in known and not (kind == "object" and word in UNSEEN):
                raise ValueError(f"unknown {kind} '{word}'; known are: {', '.join(known)}")

    @property
    def indices(self) -> tuple[int, ...]:
        """The place of each word in its kind, in the order of KINDS."""
        return tuple(known.index(getattr(self, kind)) for kind, known in KINDS.items())


KINDS: dict[str, tuple[str, ...]] = {
    "object": OBJECTS,
    "material": MATERIALS,
    "style": STYLES,
    "background": BACKGROUNDS,
    "light": LIGHTS,
}


def sample_words(rng: np.random.Generator) -> Words:
    """Every object, style and background equally often; half of the objects plain, half of the scenes by day."""
    pick = rng.choice
    return Words(
        object=str(pick(OBJECTS)),
        material=str(pick(MATERIALS, p=(0.5, *[0.5 / (len(MATERIALS) - 1)] * (len(MATERIALS) - 1)))),
        style=str(pick(STYLES)),
        background=str(pick(BACKGROUNDS)),
        light=str(pick(LIGHTS, p=(0.6, 0.2, 0.2))),
    )
