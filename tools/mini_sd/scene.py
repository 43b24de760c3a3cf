"""A still scene: words, where the object stands and where the camera looks; and its picture.

`render` is a pure function of the scene. World units are those of backgrounds.py. A picture is H W 3, RGB, float32 in
[0,1]; a pixel's index is the coordinate of its centre. Knows nothing of time; clip.py moves poses and cameras.
"""

from dataclasses import dataclass, replace

import cv2
import numpy as np

from tools.mini_sd import backgrounds, sprites
from tools.mini_sd.words import Words, sample_words

PICTURE = 128  # pixels of a picture's side
OBJECT_TINT = {"day": (1.0, 1.0, 1.0), "sunset": (1.0, 0.84, 0.70), "night": (0.56, 0.62, 0.86)}
SHADOW = 0.42  # how much light a shadow takes
LENS_BLUR = 0.5  # pixels; keeps what a latent has to carry below the finest detail a pixel can


@dataclass(frozen=True)
class Pose:
    """The object: its feet, its longer side and its height in the air in world units, its tilt in radians."""

    x: float
    y: float
    scale: float
    tilt: float = 0.0
    lift: float = 0.0


@dataclass(frozen=True)
class Camera:
    """The world point in the middle of the picture, and the magnification."""

    x: float = 0.0
    y: float = 0.0
    zoom: float = 1.0


@dataclass(frozen=True)
class Scene:
    """All that a picture depends on. variant picks one of the background's canvases."""

    words: Words
    pose: Pose
    camera: Camera = Camera()
    variant: int = 0

    def with_words(self, **words: str) -> "Scene":
        """The same scene in other words: what a perfect edit of its picture would give."""
        return replace(self, words=replace(self.words, **words))


@dataclass(frozen=True)
class Rendering:
    """picture H W 3 in [0,1]; mask H W in [0,1], the object's share of each pixel; shadow H W, the light it takes."""

    picture: np.ndarray
    mask: np.ndarray
    shadow: np.ndarray


def sample_scene(rng: np.random.Generator) -> Scene:
    """Objects large enough to recognise, now and then cut by the border."""
    camera = Camera(rng.uniform(-0.55, 0.55), rng.uniform(-0.14, 0.08), rng.uniform(0.9, 1.25))
    scale = rng.uniform(0.50, 0.86) / camera.zoom
    reach = 0.42 if rng.random() < 0.15 else 0.16
    pose = Pose(
        x=camera.x + rng.uniform(-reach, reach) / camera.zoom,
        y=camera.y + rng.uniform(0.22, 0.42) / camera.zoom,
        scale=scale,
        tilt=rng.normal(0, 0.05),
        lift=max(0.0, rng.normal(0, 0.015)),
    )
    return Scene(sample_words(rng), pose, camera, int(rng.integers(backgrounds.VARIANTS)))


def render(scene: Scene) -> Rendering:
    """Background, shadow, object, lens: from back to front."""
    words = scene.words
    background = _warp(
        backgrounds.canvas(words.background, words.light, words.style, scene.variant),
        world_to_picture(scene.camera) @ backgrounds.CANVAS_TO_WORLD,
        cv2.BORDER_REFLECT,
    )
    shadow = _shadow(scene)
    layer = _warp(
        sprites.sprite(words.object, words.material, words.style), object_to_picture(scene), cv2.BORDER_CONSTANT
    )
    mask = layer[..., 3]
    ground = background.astype(np.float32) * ((1 - shadow) * (1 - mask) / 255)[..., None]
    picture = ground + layer[..., :3] * np.array(OBJECT_TINT[words.light], np.float32)
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
    cosine, sine = size * np.cos(pose.tilt), size * np.sin(pose.tilt)
    feet = np.array([[1, 0, 0.5 - sprites.SIZE / 2], [0, 1, 0.5 - sprites.FEET], [0, 0, 1]])
    stand = np.array([[cosine, -sine, pose.x], [sine, cosine, pose.y - pose.lift], [0, 0, 1]])
    return world_to_picture(scene.camera) @ stand @ feet


def pixel_grid() -> tuple[np.ndarray, np.ndarray]:
    """x and y of every pixel's centre, H W each."""
    y, x = np.mgrid[0:PICTURE, 0:PICTURE].astype(np.float32)
    return x, y


def _warp(image: np.ndarray, to_picture: np.ndarray, border: int) -> np.ndarray:
    return cv2.warpAffine(image, to_picture[:2], (PICTURE, PICTURE), flags=cv2.INTER_LINEAR, borderMode=border)


def _shadow(scene: Scene) -> np.ndarray:
    """An ellipse on the ground under the object: hard in the flat style, soft in 3d."""
    words, pose, camera = scene.words, scene.pose, scene.camera
    width = 1.05 * sprites.half_width(words.object, words.style) * pose.scale * camera.zoom * PICTURE
    height = 0.08 * pose.scale * camera.zoom * PICTURE
    left, top, _ = world_to_picture(camera) @ (pose.x, pose.y, 1)
    x, y = pixel_grid()
    distance = np.sqrt(((x - left) / width) ** 2 + ((y - top) / height) ** 2)
    softness = 0.35 if words.style == "flat" else 1.0
    return (SHADOW * np.clip((1.1 - distance) / softness, 0, 1)).astype(np.float32)
