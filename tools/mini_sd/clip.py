"""A scene in motion, and what only a drawn clip can tell: exact flow, masks, occlusion and the perfect edit.

Frame i shows the object and the camera at time i / frames of their motions, which are plain functions of time, so
that any frame can be rendered without the others.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from tools.mini_sd.scene import (
    PICTURE,
    TRAINED_ON,
    Camera,
    Kit,
    Pose,
    Rendering,
    Scene,
    object_to_picture,
    pixel_grid,
    render,
    world_to_picture,
)

MIXED = 0.04  # a pixel whose share of the object lies between this and 1 - this belongs to no single surface
SHADE = 0.02  # a surface counts as seen again only where the shadow on it changed by less


@dataclass(frozen=True)
class Motion:
    """What changes from the first frame to one after the last, in the units of Pose and Camera.

    travel and pan are displacements, growth and zoom factors, swing and bob amplitudes of `strides` full waves.
    """

    travel: tuple[float, float] = (0.0, 0.0)
    growth: float = 1.0
    swing: float = 0.0
    bob: float = 0.0
    strides: float = 3.0
    pan: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0

    def pose(self, start: Pose, time: float) -> Pose:
        """Where the object is at a time in [0,1)."""
        wave = 2 * np.pi * self.strides * time
        return Pose(
            x=start.x + self.travel[0] * time,
            y=start.y + self.travel[1] * time,
            scale=start.scale * self.growth**time,
            tilt=start.tilt + self.swing * np.sin(wave),
            lift=start.lift + self.bob * (1 - np.cos(wave)) / 2,
            faces=start.faces,
        )

    def camera(self, start: Camera, time: float) -> Camera:
        """Where the camera looks at a time in [0,1)."""
        return Camera(
            x=start.x + self.pan[0] * time,
            y=start.y + self.pan[1] * time,
            zoom=start.zoom * self.zoom**time,
        )


@dataclass(frozen=True)
class Clip:
    """A scene as it is at the start, how it moves, for how many frames, and what it is drawn with.

    Mirrored, left and right change places in all that is drawn.
    """

    start: Scene
    motion: Motion
    frames: int = 24
    kit: Kit = TRAINED_ON
    mirrored: bool = False

    def with_words(self, **words: str) -> "Clip":
        """The same motion in other words: what a perfect edit of the clip would give."""
        return replace(self, start=self.start.with_words(**words))

    def scene(self, frame: int) -> Scene:
        """The scene at a frame."""
        time = frame / self.frames
        return replace(
            self.start,
            pose=self.motion.pose(self.start.pose, time),
            camera=self.motion.camera(self.start.camera, time),
        )

    def render(self, frame: int) -> Rendering:
        """Picture and masks of a frame."""
        rendering = render(self.scene(frame), self.kit)
        if not self.mirrored:
            return rendering
        return Rendering(*(np.ascontiguousarray(image[:, ::-1]) for image in vars(rendering).values()))

    def pictures(self) -> np.ndarray:
        """f H W 3 in [0,1]."""
        return np.stack([self.render(frame).picture for frame in range(self.frames)])

    def masks(self) -> np.ndarray:
        """f H W in [0,1], the object's share of each pixel."""
        return np.stack([self.render(frame).mask for frame in range(self.frames)])

    def flow(self, source: int, target: int) -> np.ndarray:
        """H W 2: where what is seen at each pixel of frame `source` went in frame `target`, as (dx, dy) in pixels."""
        if self.mirrored:
            return replace(self, mirrored=False).flow(source, target)[:, ::-1] * np.array([-1, 1], np.float32)
        behind = self._displacement(source, target, lambda scene: world_to_picture(scene.camera))
        front = self._displacement(source, target, object_to_picture)
        on_object = self.render(source).mask > 0.5
        return np.where(on_object[..., None], front, behind)

    def occluded(self, source: int, target: int) -> np.ndarray:
        """H W, true where what frame `source` shows cannot be found in frame `target`.

        It is hidden behind the object there, lies outside the picture, lies under a shadow there and not here (or the
        other way round), or the pixel mixes object and background in one of the two frames.
        """
        here, there = self.render(source), self.render(target)
        flow = self.flow(source, target)
        mask, shadow = warp(there.mask, flow), warp(there.shadow, flow)
        on_object = here.mask > 0.5
        other_surface = np.where(on_object, mask < 1 - MIXED, mask > MIXED)
        mixed = (here.mask > MIXED) & (here.mask < 1 - MIXED)
        relit = ~on_object & (np.abs(shadow - here.shadow) > SHADE)
        x, y = pixel_grid()
        left, top = x + flow[..., 0], y + flow[..., 1]
        outside = (left < 0) | (top < 0) | (left > PICTURE - 1) | (top > PICTURE - 1)
        return other_surface | mixed | relit | outside

    def _displacement(self, source: int, target: int, to_picture: Callable[[Scene], np.ndarray]) -> np.ndarray:
        move = to_picture(self.scene(target)) @ np.linalg.inv(to_picture(self.scene(source)))
        x, y = pixel_grid()
        moved = np.stack([x, y, np.ones_like(x)], axis=-1) @ move[:2].T
        return (moved - np.stack([x, y], axis=-1)).astype(np.float32)


def warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """The image (H W or H W c) looked up where the flow (H W 2) points, linearly interpolated.

    With the flow from frame a to frame b, and frame b as the image, this is frame b laid over frame a.
    """
    x, y = pixel_grid()
    return cv2.remap(image, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def sample_motion(rng: np.random.Generator, faces: str) -> Motion:
    """A walk or a drive to where the object faces."""
    ahead = 1 if faces == "right" else -1
    return Motion(
        travel=(ahead * rng.uniform(0.05, 0.45), rng.uniform(-0.05, 0.05)),
        growth=rng.uniform(0.85, 1.18),
        swing=rng.uniform(0, 0.06),
        bob=rng.uniform(0, 0.05),
        strides=rng.uniform(1, 4),
        pan=(rng.uniform(-0.25, 0.25), rng.uniform(-0.04, 0.04)),
        zoom=rng.uniform(0.9, 1.12),
    )
