"""A clip as two layers, each with a motion of its own: an object, and the background behind it."""

from collections.abc import Mapping
from functools import cached_property, lru_cache

import cv2
import numpy as np

from tokenflow.correspondence.flow import confidence
from tokenflow.diffusion.latents import Frames
from tokenflow.propagation.pixels.dense_flow import flows
from tokenflow.propagation.pixels.filling import fill_smoothly
from tokenflow.propagation.pixels.matting import DISTINCT, alpha_of, connected
from tokenflow.propagation.pixels.rigid_motion import Motion, fit_motion, is_inside, motion_flow, warp

MARGIN = 0.03
"""Of the longer side: how far around a region its object may reach, and how far from it the background is certain."""

RING = 0.1
"""Of the longer side: how far around a region its surroundings reach."""

FADE = 0.06
"""Of the longer side: distance from an object over which its bending, beyond its rigid motion, fades."""

MAX_SAMPLES = 16
"""Frames that a background is put together from."""

CACHED_FRAMES = 32
"""Of whose masks and backgrounds."""

FEW_PIXELS = 20

DISTINGUISHED = 8.0
"""Grey levels by which a pixel has to fit one motion better than another to tell them apart."""

SEPARATE = 0.3
"""Share of these pixels that move with the background, above which a region is an object of its own: at least 0.40 on
drawn clips, at most 0.18 for parts of the head of a filmed wolf."""


class Layers:
    """Motions, masks and backgrounds around an object that some frames give the region of.

    The region is moved from frame to frame with the object. Object and background each follow one homography per pair
    of neighbours; what an object bends beyond that is found once more by optical flow, between the frames themselves.

    Args:
        frames: f H W 3 uint8.
        regions: by frame index, H W bool: where the object is in that frame, or a little more; at least one.
    """

    def __init__(self, frames: Frames, regions: Mapping[int, np.ndarray]) -> None:
        self._frames = frames
        self._height, self._width = frames.shape[1:3]
        self._longer = max(self._height, self._width)
        self._given = sorted(regions)
        self._regions: dict[int, np.ndarray] = dict(regions)
        self._objects, self._backgrounds = self._find_motions(self._given)
        self.background = lru_cache(CACHED_FRAMES)(self._background)
        self.object_mask = lru_cache(CACHED_FRAMES)(self._object_mask)

    def region(self, frame: int) -> np.ndarray:
        """H W bool: where the object is in a frame, or a little more."""
        return self._regions[frame]

    @cached_property
    def separate(self) -> bool:
        """Whether what surrounds the regions moves with the background rather than with the object.

        If not, the regions are a part of the surface of something, and nothing lies behind them. Each pixel around a
        region that tells both motions apart has a vote; those that the object hides in the other frame have none.
        """
        with_background = votes = 0
        for given in self._given:
            for other in {given - 1, given + 1} & set(range(len(self._frames))):
                difference = self._surroundings(given, other)
                with_background += int((difference > DISTINGUISHED).sum())
                votes += int((np.abs(difference) > DISTINGUISHED).sum())
        return not votes or with_background >= SEPARATE * votes

    def _surroundings(self, given: int, other: int) -> np.ndarray:
        """By how much better each pixel around a given region fits another frame if it moves with the background than
        with the object: n, in grey levels."""
        first, second = self._grey(given).astype(np.float32), self._grey(other)
        flows = [self._between(motions, given, other) for motions in (self._objects, self._backgrounds)]
        region, moved = (self._regions[frame].astype(np.uint8) for frame in (given, other))
        around = (cv2.dilate(region, self.square(RING)) > 0) & (cv2.dilate(region, self.square(MARGIN)) == 0)
        hidden = warp(cv2.dilate(moved, self.square(MARGIN)), flows[1]) > 0.01
        compared = around & ~hidden & is_inside(flows[0]) & is_inside(flows[1])
        with_object, with_background = (np.abs(first - warp(second, flow)) for flow in flows)
        return (with_object - with_background)[compared]

    def background_flow(self, frame: int, other: int) -> np.ndarray:
        """Where each pixel's place on the background lies in another frame, H W 2 in pixels."""
        return self._between(self._backgrounds, frame, other)

    def object_flow(self, frame: int, other: int) -> np.ndarray:
        """Where each pixel lies in another frame if it moves with the object, H W 2 in pixels."""
        rigid = self._between(self._objects, frame, other)
        aligned = warp(self._frames[other], rigid, cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
        bending, back = flows(self._frames[frame], aligned)  # H W 2
        inside = cv2.erode((self.object_mask(frame) > 0.9).astype(np.uint8), self.square(MARGIN)) > 0
        sure = inside & (confidence(bending, back) > 0.5) & is_inside(rigid)
        if sure.sum() < FEW_PIXELS:
            return rigid
        away = cv2.distanceTransform((~sure).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
        return rigid + fill_smoothly(bending, sure) * np.exp(-away / (FADE * self._longer))[..., None]

    def _background(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """What lies behind the object in a frame: H W 3 float32, and H W bool: whether any frame shows it.

        The median of frames spread over the clip, where the object is not in the way.
        """
        count = min(len(self._frames), MAX_SAMPLES)
        sampled = {*np.linspace(0, len(self._frames) - 1, count).round().astype(int).tolist(), frame}
        samples = []
        for other in sorted(sampled):
            flow = self.background_flow(frame, other)
            hidden = cv2.dilate(self._regions[other].astype(np.float32), self.square(MARGIN))
            seen = is_inside(flow) & (warp(hidden, flow) < 0.01)
            samples.append(np.where(seen[..., None], warp(self._frames[other], flow, cv2.INTER_CUBIC), np.nan))
        stacked = np.stack(samples)  # s H W 3
        known: np.ndarray = ~np.isnan(stacked[..., 0]).all(axis=0)  # H W
        median = np.zeros((self._height, self._width, 3), np.float32)
        median[known] = np.nanmedian(stacked[:, known], axis=0)
        return fill_smoothly(median, known), known

    def _object_mask(self, frame: int) -> np.ndarray:
        """The object's share of each pixel of a frame, H W in [0, 1]."""
        background, _ = self.background(frame)
        difference = np.abs(self._frames[frame] - background).max(-1)
        near = cv2.dilate(self._regions[frame].astype(np.uint8), self.square(MARGIN)) > 0
        entering = connected(difference > DISTINCT, self._regions[frame]) & self._unseen(frame)
        return alpha_of(difference, near | entering)

    def _unseen(self, frame: int) -> np.ndarray:
        """H W bool: pixels that lie outside of every given frame if they move with the object."""
        return ~np.any([is_inside(self._between(self._objects, frame, given)) for given in self._given], axis=0)

    def _find_motions(self, given: list[int]) -> tuple[list[Motion], list[Motion]]:
        """Motions of object and background from the first frame to every frame; fills the regions between."""
        last = len(self._frames) - 1
        steps: dict[int, tuple[Motion, Motion]] = {}
        forwards = [(frame, frame + 1) for frame in range(given[0], last)]
        backwards = [(frame + 1, frame) for frame in range(given[0] - 1, -1, -1)]
        for known, unknown in forwards + backwards:
            of_object, of_background = self._step(known, unknown)
            if unknown not in self._regions:
                self._regions[unknown] = self._moved(self._regions[known], np.linalg.inv(of_object))
            if unknown < known:
                of_object, of_background = np.linalg.inv(of_object), np.linalg.inv(of_background)
            steps[min(known, unknown)] = of_object, of_background
        objects, backgrounds = [np.eye(3)], [np.eye(3)]
        for first in range(last):
            objects.append(steps[first][0] @ objects[-1])
            backgrounds.append(steps[first][1] @ backgrounds[-1])
        return objects, backgrounds

    def _step(self, known: int, unknown: int) -> tuple[Motion, Motion]:
        """Motions of object and background from a frame whose region is known to its neighbour."""
        a, b = self._grey(known), self._grey(unknown)
        region = self._regions[known]
        outside = cv2.dilate(region.astype(np.uint8), self.square(MARGIN)) == 0
        return fit_motion(a, b, region, perspective=False), fit_motion(a, b, outside, perspective=True)

    def _moved(self, region: np.ndarray, back: Motion) -> np.ndarray:
        flow = motion_flow(back, self._height, self._width)
        return warp(region, flow, border=cv2.BORDER_CONSTANT) > 0.3  # rather too large than too small

    def _between(self, motions: list[Motion], frame: int, other: int) -> np.ndarray:
        return motion_flow(motions[other] @ np.linalg.inv(motions[frame]), self._height, self._width)

    def _grey(self, frame: int) -> np.ndarray:
        """H W uint8."""
        return cv2.cvtColor(self._frames[frame], cv2.COLOR_RGB2GRAY)

    def square(self, share: float) -> np.ndarray:
        """A structuring element with sides of a share of the frame's longer side."""
        side = max(3, round(share * self._longer)) | 1
        return np.ones((side, side), np.uint8)
