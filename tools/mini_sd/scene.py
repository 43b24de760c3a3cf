"""A still scene: words, where the objects stand and where the camera looks; and its picture.

`render` is a pure function of the scene. World units are those of backgrounds.py. A picture is H W 3, RGB, float32 in
[0,1]; a pixel's index is the coordinate of its centre.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from tools.mini_sd import backgrounds, sprites
from tools.mini_sd.words import DIRECTIONS, NOBODY, Words, sample_words

PICTURE = 256  # pixels of a picture's side
OBJECT_TINT = {"day": (1.0, 1.0, 1.0), "sunset": (1.0, 0.84, 0.70), "night": (0.56, 0.62, 0.86)}
SHADOW = 0.42  # how much light a shadow takes, where a scene does not say otherwise
HARD_SHADOWS = ("flat", "sticker")
LENS_BLUR = 0.5  # pixels; keeps what a latent has to carry below the finest detail a pixel can
MOST_HALVINGS = 2  # of a sprite that is drawn small


@dataclass(frozen=True)
class Pose:
    """An object: its feet, its longer side and its height in the air in world units, its tilt in radians."""

    x: float
    y: float
    scale: float
    tilt: float = 0.0
    lift: float = 0.0
    faces: str = "left"


@dataclass(frozen=True)
class Camera:
    """The world point in the middle of the picture, and the magnification."""

    x: float = 0.0
    y: float = 0.0
    zoom: float = 1.0


@dataclass(frozen=True)
class Scene:
    """All that a picture depends on.

    variant picks one of the background's canvases; shadow is the share of light that shadows take, 0 for none. The
    companion, where words name one, stands still behind the object.
    """

    words: Words
    pose: Pose
    camera: Camera = Camera()
    variant: int = 0
    shadow: float = SHADOW
    companion: Pose = Pose(0.25, 0.12, 0.4)

    def with_words(self, **words: str) -> "Scene":
        """The same scene in other words: what a perfect edit of its picture would give."""
        return replace(self, words=replace(self.words, **words))

    @property
    def labels(self) -> tuple[int, ...]:
        """What the picture shows: the place of each word in its kind, in the order of words.LABELS."""
        return (*self.words.indices, DIRECTIONS.index(self.pose.faces))


@dataclass(frozen=True)
class Kit:
    """What scenes are drawn with: canvases by background, light, style and variant, and a family of sprites.

    Without a family, sprites are those of the words' style.
    """

    canvas: Callable[[str, str, str, int], np.ndarray] = backgrounds.canvas
    family: str | None = None


TRAINED_ON = Kit()


@dataclass(frozen=True)
class Rendering:
    """picture H W 3 in [0,1]; mask H W in [0,1], the object's share of each pixel; shadow H W, the light it takes."""

    picture: np.ndarray
    mask: np.ndarray
    shadow: np.ndarray


def sample_scene(rng: np.random.Generator) -> Scene:
    """An object of any size that fits, either way round, now and then tilted or cut by the border."""
    words = sample_words(rng)
    camera = Camera(rng.uniform(-0.55, 0.55), rng.uniform(-0.30, 0.20), rng.uniform(0.85, 1.4))
    pose = _sample_pose(rng, camera, largest=1.25 if words.companion == NOBODY else 0.7)
    return Scene(
        words,
        pose,
        camera,
        variant=int(rng.integers(backgrounds.VARIANTS)),
        shadow=0.0 if rng.random() < 0.2 else rng.uniform(0.2, 0.6),
        companion=_sample_companion(rng, camera, pose),
    )


def _sample_pose(rng: np.random.Generator, camera: Camera, largest: float) -> Pose:
    size = np.exp(rng.uniform(np.log(0.28), np.log(largest)))  # share of the picture's side
    reach = rng.uniform(0.3, 0.5) if rng.random() < 0.15 else 0.05 + 0.4 * max(0.0, 1 - size)
    feet = rng.uniform(0.12, 0.44) + 0.3 * max(0.0, size - 0.6)
    return Pose(
        x=camera.x + rng.uniform(-reach, reach) / camera.zoom,
        y=max(0.03, camera.y + feet / camera.zoom),
        scale=size / camera.zoom,
        tilt=rng.normal(0, 0.05) if rng.random() < 0.8 else rng.uniform(-0.45, 0.45),
        lift=max(0.0, rng.normal(0, 0.015)),
        faces=str(rng.choice(DIRECTIONS)),
    )


def _sample_companion(rng: np.random.Generator, camera: Camera, pose: Pose) -> Pose:
    """Behind the object, on the side where there is more room."""
    side = -1 if pose.x > camera.x else 1
    scale = rng.uniform(0.25, 0.5) / camera.zoom
    return Pose(
        x=pose.x + side * rng.uniform(0.35, 0.55) * (pose.scale + scale),
        y=max(0.02, pose.y - rng.uniform(0.02, 0.18) / camera.zoom),
        scale=scale,
        tilt=rng.normal(0, 0.03),
        faces=str(rng.choice(DIRECTIONS)),
    )


def render(scene: Scene, kit: Kit = TRAINED_ON) -> Rendering:
    """Background, companion, shadow, object, lens: from back to front."""
    words, family = scene.words, kit.family or scene.words.style
    picture = _background(scene, kit)
    if words.companion != NOBODY:
        companion = Scene(Words(words.companion, style=words.style), scene.companion, scene.camera, shadow=scene.shadow)
        picture = _lay_over(picture, _shadow(companion, family), _layer(companion, family), words.light)
    shadow, layer = _shadow(scene, family), _layer(scene, family)
    picture, mask = _lay_over(picture, shadow, layer, words.light), layer[..., 3]
    picture, mask = (np.clip(cv2.GaussianBlur(image, (3, 3), LENS_BLUR), 0, 1) for image in (picture, mask))
    return Rendering(picture, mask, shadow)


def world_to_picture(camera: Camera) -> np.ndarray:
    """3 3, world units to picture pixels."""
    zoom = camera.zoom * PICTURE
    middle = PICTURE / 2 - 0.5
    return np.array([[zoom, 0, middle - zoom * camera.x], [0, zoom, middle - zoom * camera.y], [0, 0, 1]])


def object_to_picture(scene: Scene) -> np.ndarray:
    """3 3, sprite pixels to picture pixels: the sprite turns about its feet, then stands in the world."""
    pose = scene.pose
    size = pose.scale / sprites.CONTENT
    mirror = -1 if pose.faces == "right" else 1
    cosine, sine = size * np.cos(pose.tilt), size * np.sin(pose.tilt)
    feet = np.array([[mirror, 0, mirror * (0.5 - sprites.SIZE / 2)], [0, 1, 0.5 - sprites.FEET], [0, 0, 1]])
    stand = np.array([[cosine, -sine, pose.x], [sine, cosine, pose.y - pose.lift], [0, 0, 1]])
    return world_to_picture(scene.camera) @ stand @ feet


def pixel_grid() -> tuple[np.ndarray, np.ndarray]:
    """x and y of every pixel's centre, H W each."""
    y, x = np.mgrid[0:PICTURE, 0:PICTURE].astype(np.float32)
    return x, y


def _warp(image: np.ndarray, to_picture: np.ndarray, border: int) -> np.ndarray:
    return cv2.warpAffine(image, to_picture[:2], (PICTURE, PICTURE), flags=cv2.INTER_LINEAR, borderMode=border)


def _background(scene: Scene, kit: Kit) -> np.ndarray:
    words = scene.words
    canvas = kit.canvas(words.background, words.light, words.style, scene.variant)
    seen = _warp(canvas, world_to_picture(scene.camera) @ backgrounds.CANVAS_TO_WORLD, cv2.BORDER_REFLECT)
    return seen.astype(np.float32) / 255


def _layer(scene: Scene, family: str) -> np.ndarray:
    """The object alone, H W 4, premultiplied RGBA; drawn small, from a sprite that was made smaller with care."""
    words, pose = scene.words, scene.pose
    smaller = sprites.CONTENT / (pose.scale * scene.camera.zoom * PICTURE)
    halvings = int(np.clip(np.log2(smaller), 0, MOST_HALVINGS))
    step = 2**halvings
    to_full = np.array([[step, 0, (step - 1) / 2], [0, step, (step - 1) / 2], [0, 0, 1]])
    sprite = sprites.sprite(words.object, words.material, family, halvings)
    return _warp(sprite, object_to_picture(scene) @ to_full, cv2.BORDER_CONSTANT)


def _lay_over(picture: np.ndarray, shadow: np.ndarray, layer: np.ndarray, light: str) -> np.ndarray:
    ground = picture * ((1 - shadow) * (1 - layer[..., 3]))[..., None]
    return ground + layer[..., :3] * np.array(OBJECT_TINT[light], np.float32)


def _shadow(scene: Scene, family: str) -> np.ndarray:
    """An ellipse on the ground under the object, with a hard or a soft border."""
    words, pose, camera = scene.words, scene.pose, scene.camera
    width = 1.05 * sprites.half_width(words.object, family) * pose.scale * camera.zoom * PICTURE
    height = 0.08 * pose.scale * camera.zoom * PICTURE
    left, top, _ = world_to_picture(camera) @ (pose.x, pose.y, 1)
    x, y = (np.arange(PICTURE, dtype=np.float32) - place for place in (left, top))
    distance = np.sqrt((x / width) ** 2 + ((y / height) ** 2)[:, None])
    softness = 0.35 if words.style in HARD_SHADOWS else 1.0
    return (scene.shadow * np.clip((1.1 - distance) / softness, 0, 1)).astype(np.float32)
