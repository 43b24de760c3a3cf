"""What the small model knows: the closed vocabulary of its scenes."""

from dataclasses import dataclass

import numpy as np

OBJECTS = (
    "cat", "dog", "tiger", "leopard", "horse", "cow", "pig", "elephant", "zebra", "camel", "rhino", "bison",
    "sheep", "deer", "giraffe", "hippo", "car", "bus", "tractor", "taxi", "ambulance", "fire engine", "police car",
    "pickup truck", "rabbit", "goat", "kangaroo", "llama", "donkey", "flamingo", "mammoth", "gorilla", "crocodile",
    "turtle", "duck", "swan", "rooster", "penguin", "parrot", "squirrel", "hedgehog", "beaver", "bicycle",
    "motorcycle", "scooter", "truck", "train", "helicopter",
)  # fmt: skip
HELD_OUT_OBJECTS = (
    "cat", "dog", "tiger", "leopard", "horse", "cow", "pig", "elephant", "camel", "sheep", "car", "bus", "tractor",
    "taxi", "ambulance", "police car", "goat", "turtle", "rooster", "penguin", "squirrel", "bicycle", "motorcycle",
    "truck", "train", "helicopter",
)  # fmt: skip
"""What the generator of held_out.py can draw."""
UNSEEN = ("sauropod",)
"""Objects that can be drawn and are in no training: what a LoRA is measured with."""
PLAIN = "plain"
MATERIALS = (PLAIN, "marble", "golden", "silver", "jade")
STYLES = ("flat", "3d", "cartoon", "sticker")
BACKGROUNDS = ("grass", "sand", "snow", "the sea", "a road", "a wooden floor", "the moon", "a brick wall")
DAY = "day"
LIGHTS = (DAY, "night", "sunset")
NOBODY = "nobody"
COMPANIONS = (NOBODY, *OBJECTS)
DIRECTIONS = ("left", "right")  # where the object faces; never said


@dataclass(frozen=True)
class Words:
    """One choice of each kind. `plain`, `day` and `nobody` are what a sentence leaves unsaid.

    The companion is a second object, farther away, in its own colours.
    """

    object: str
    material: str = PLAIN
    style: str = "3d"
    background: str = "grass"
    light: str = DAY
    companion: str = NOBODY

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
    "companion": COMPANIONS,
}
LABELS = KINDS | {"direction": DIRECTIONS}
"""All that a picture shows: what a sentence can say, and the direction."""


def sample_words(rng: np.random.Generator) -> Words:
    """Every object, style and background equally often; half of the objects plain, most scenes by day."""
    pick = rng.choice
    return Words(
        object=str(pick(OBJECTS)),
        material=str(pick(MATERIALS, p=(0.5, *[0.5 / (len(MATERIALS) - 1)] * (len(MATERIALS) - 1)))),
        style=str(pick(STYLES)),
        background=str(pick(BACKGROUNDS)),
        light=str(pick(LIGHTS, p=(0.6, 0.2, 0.2))),
        companion=str(pick(OBJECTS)) if rng.random() < 0.15 else NOBODY,
    )
