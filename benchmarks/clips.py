"""The drawn clips that quality is measured on, and others that settings are tuned on; each with its edits.

All are written by hand, not sampled from the scenes that the small model was trained on; no clip is in both lists.
"""

from dataclasses import dataclass, replace

from benchmarks.truth import Truth
from tools.mini_sd.build_clips import CLIPS
from tools.mini_sd.clip import Clip, Motion
from tools.mini_sd.held_out import KIT
from tools.mini_sd.scene import Camera, Pose, Scene
from tools.mini_sd.words import Words

FRAMES = 12
KINDS = ("object", "material", "style", "background", "global")
"""Kinds of edits. A global one changes the light."""


@dataclass(frozen=True)
class Case:
    """A clip and one edit of it.

    Attributes:
        clip: the clip's name.
        traits: what is hard about the clip.
        kind: of the edit, one of KINDS.
        words: the words that the edit changes, by their kind.
        truth: the ground truth.
    """

    clip: str
    traits: str
    kind: str
    words: tuple[tuple[str, str], ...]
    truth: Truth

    @property
    def edit(self) -> str:
        """The words that change: `tiger`, or `golden tiger`."""
        return " ".join(word for _, word in self.words)

    @property
    def name(self) -> str:
        """Clip and edit as a file name."""
        return f"{self.clip}.{self.edit.replace(' ', '_')}"


def _cases(
    name: str, traits: str, words: Words, pose: Pose, motion: Motion, *edits: dict[str, str], **view: float
) -> list[Case]:
    camera = Camera(*(view.get(key, value) for key, value in (("x", 0.0), ("y", 0.0), ("zoom", 1.0))))
    clip = Clip(Scene(words, pose, camera, int(view.get("variant", 0))), motion, FRAMES)
    cases = []
    for changed in edits:
        (first, *_) = changed
        kind = "global" if first == "light" else first
        cases.append(Case(name, traits, kind, tuple(changed.items()), Truth(clip, clip.with_words(**changed))))
    return cases


def _held_out(name: str, traits: str, words: Words, pose: Pose, motion: Motion, *edits: dict[str, str]) -> list[Case]:
    """A clip by the generator that no model has seen a picture of."""
    return [
        replace(case, truth=Truth(replace(case.truth.clip, kit=KIT), replace(case.truth.target, kit=KIT)))
        for case in _cases(name, traits, words, pose, motion, *edits)
    ]


def mirrored(case: Case) -> Case:
    """The same with left and right in each other's place, in the same words."""
    clip, target = (replace(each, mirrored=True) for each in (case.truth.clip, case.truth.target))
    return replace(case, clip=f"{case.clip}_mirrored", truth=Truth(clip, target))


def _shipped(name: str, traits: str, *edits: dict[str, str]) -> list[Case]:
    """A clip of data/clips/ in as many frames as the others have, which makes it faster."""
    start, motion = CLIPS[name].start, CLIPS[name].motion
    view = {"x": start.camera.x, "y": start.camera.y, "zoom": start.camera.zoom, "variant": start.variant}
    return _cases(name, traits, start.words, start.pose, motion, *edits, **view)


BENCHMARK = [
    *_cases(
        "cow_strolls", "slow", Words("cow"), Pose(0.12, 0.32, 0.66),
        Motion(travel=(-0.16, 0.0), swing=0.02, bob=0.02, strides=2),
        {"object": "zebra"}, {"material": "golden"}, variant=1,
    ),
    *_cases(
        "horse_gallops", "fast", Words("horse", background="sand"), Pose(0.38, 0.34, 0.60),
        Motion(travel=(-0.78, 0.0), swing=0.06, bob=0.05, strides=3),
        {"object": "camel"}, {"background": "snow"}, variant=4,
    ),
    *_cases(
        "elephant_near", "large, slow", Words("elephant"), Pose(0.10, 0.40, 0.86),
        Motion(travel=(-0.20, 0.02), growth=1.05, swing=0.015, bob=0.015, strides=2),
        {"material": "marble"}, variant=6,
    ),
    *_cases(
        "pig_far", "small", Words("pig", background="snow", style="flat"), Pose(0.14, 0.26, 0.46),
        Motion(travel=(-0.34, 0.02), swing=0.04, bob=0.03, strides=4),
        {"object": "dog"}, {"style": "3d"}, variant=2,
    ),
    *_cases(
        "bus_followed", "pan with the object", Words("bus", background="a road"), Pose(0.26, 0.30, 0.70),
        Motion(travel=(-0.50, 0.0), swing=0.008, bob=0.008, strides=5, pan=(-0.50, 0.0)),
        {"material": "silver"}, {"light": "night"}, x=0.26, variant=3,
    ),
    *_cases(
        "taxi_races", "very fast, pan against the object", Words("taxi", background="a road"), Pose(0.42, 0.30, 0.58),
        Motion(travel=(-0.72, 0.02), swing=0.01, bob=0.012, strides=6, pan=(0.22, 0.0)),
        {"object": "tractor"}, x=0.02, variant=5,
    ),
    *_cases(
        "cat_enters", "occlusion at the border", Words("cat", background="a wooden floor"), Pose(0.48, 0.32, 0.62),
        Motion(travel=(-0.46, 0.02), swing=0.03, bob=0.025, strides=3),
        {"object": "leopard"}, y=-0.02, variant=7,
    ),
    *_cases(
        "rhino_leaves", "occlusion at the border", Words("rhino", background="sand"), Pose(-0.10, 0.34, 0.70),
        Motion(travel=(-0.46, 0.0), swing=0.02, bob=0.02, strides=3),
        {"material": "jade"}, variant=0,
    ),
    *_cases(
        "camel_passed", "fast pan", Words("camel", background="sand", style="flat"), Pose(-0.02, 0.34, 0.66),
        Motion(travel=(-0.06, 0.0), swing=0.01, bob=0.01, strides=2, pan=(0.42, 0.03)),
        {"style": "3d"}, x=-0.20, variant=5,
    ),
    *_cases(
        "tractor_bumps", "shaking", Words("tractor"), Pose(0.10, 0.32, 0.64),
        Motion(travel=(-0.24, 0.0), swing=0.07, bob=0.08, strides=4),
        {"background": "sand"}, variant=7,
    ),
    *_cases(
        "dog_by_a_wall", "fine texture behind, zoom", Words("dog", background="a brick wall"), Pose(0.08, 0.36, 0.64),
        Motion(travel=(-0.20, 0.0), growth=1.04, swing=0.03, bob=0.03, strides=3, zoom=1.15),
        {"light": "sunset"}, variant=2,
    ),
    *_cases(
        "zebra_grows", "coming nearer", Words("zebra", background="snow"), Pose(0.10, 0.28, 0.50),
        Motion(travel=(-0.16, 0.12), growth=1.5, swing=0.02, bob=0.02, strides=3),
        {"object": "tiger"}, variant=6,
    ),
]  # fmt: skip
"""What `benchmarks.quality` measures: twelve clips."""

TUNING = [
    *_cases(
        "horse_trots", "", Words("horse"), Pose(0.16, 0.33, 0.62),
        Motion(travel=(-0.34, 0.0), swing=0.03, bob=0.03, strides=3),
        {"object": "leopard"}, variant=3,
    ),
    *_cases(
        "pig_on_planks", "", Words("pig", background="a wooden floor"), Pose(0.12, 0.31, 0.60),
        Motion(travel=(-0.24, 0.03), growth=1.08, swing=0.025, bob=0.02, strides=3, pan=(-0.08, 0.0)),
        {"material": "golden"}, variant=1,
    ),
    *_cases(
        "car_on_sand", "", Words("car", background="sand"), Pose(0.32, 0.31, 0.64),
        Motion(travel=(-0.56, 0.01), swing=0.012, bob=0.012, strides=5, pan=(-0.30, 0.0)),
        {"background": "grass"}, x=0.22, variant=6,
    ),
    *_cases(
        "elephant_at_noon", "", Words("elephant", background="grass"), Pose(0.10, 0.36, 0.74),
        Motion(travel=(-0.22, 0.0), swing=0.02, bob=0.02, strides=2, zoom=1.08),
        {"light": "sunset"}, variant=4,
    ),
    *_cases(
        "zebra_flees", "fast", Words("zebra"), Pose(0.40, 0.33, 0.58),
        Motion(travel=(-0.76, 0.0), swing=0.05, bob=0.05, strides=4),
        {"object": "cow"}, variant=2,
    ),
    *_cases(
        "rhino_pans", "pan", Words("rhino", background="grass", style="flat"), Pose(0.0, 0.33, 0.66),
        Motion(travel=(-0.08, 0.0), swing=0.01, bob=0.01, strides=2, pan=(0.38, 0.02)),
        {"style": "3d"}, x=-0.18, variant=2,
    ),
    *_shipped("car_drive", "fast, pan", {"material": "golden"}),
    *_shipped("cat_walk", "", {"light": "sunset"}),
]  # fmt: skip
"""What defaults are tuned on by `benchmarks.sweep`: six other clips, and two that are shipped, with edits that SDEdit
once ruined by default."""

HELD_OUT = [
    *_held_out(
        "penguin_waddles", "", Words("penguin", style="flat", background="snow"), Pose(0.12, 0.32, 0.60),
        Motion(travel=(-0.26, 0.0), swing=0.05, bob=0.02, strides=4),
        {"material": "golden"}, {"light": "night"},
    ),
    *_held_out(
        "turtle_crawls", "to the right, slow", Words("turtle", style="flat"), Pose(-0.16, 0.33, 0.52, faces="right"),
        Motion(travel=(0.22, 0.0), swing=0.015, bob=0.01, strides=3),
        {"object": "pig"}, {"material": "marble"},
    ),
    *_held_out(
        "train_passes", "fast, pan", Words("train", style="flat", background="a road"), Pose(0.30, 0.31, 0.66),
        Motion(travel=(-0.52, 0.0), swing=0.006, bob=0.006, strides=5, pan=(-0.30, 0.0)),
        {"object": "bus"}, {"background": "grass"},
    ),
    *_held_out(
        "goat_climbs", "to the right",
        Words("goat", style="flat", background="sand"), Pose(-0.14, 0.34, 0.62, faces="right"),
        Motion(travel=(0.28, -0.06), swing=0.03, bob=0.03, strides=3),
        {"object": "sheep"}, {"background": "snow"},
    ),
]  # fmt: skip
"""Clips by another generator: what holds here holds for drawn clips in general. No setting is chosen on them."""

BUNDLED = [
    *_shipped("dog_walk", "", {"object": "tiger"}, {"background": "snow"}),
    *_shipped("cat_walk", "", {"material": "golden"}, {"material": "marble"}),
    *_shipped("car_drive", "fast, pan", {"object": "bus"}, {"light": "night"}),
]
"""The clips that ship, with the edits that ship beside them."""
