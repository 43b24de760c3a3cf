"""Correspondence from optical flow of the source frames, with forward–backward confidence."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tokenflow.correspondence.pairwise import Pairwise
from tokenflow.diffusion.latents import Frames
from tokenflow.store.arrays import PairFile
from tokenflow.store.kept_pairs import KeptPairs

MIN_RESOLUTION = 4
"""Flow is kept at this many samples along each side of a latent, or at one per two pixels if that is more."""

SMALL, UPSCALING = 256, 2
"""Images whose longer side is shorter than this are enlarged by this factor before flow is estimated: DIS matches
patches of eight pixels at any size, and moving parts of a small image are not much larger."""

SMOOTHNESS = 40.0
"""Weight of smoothness in the refinement of flow, twice OpenCV's default."""


FLOW_STEP_BYTES = 2 * 2 * 2
"""Per sample of the flow between two neighbours: there and back, x and y, float16."""

FIELD_BYTES = 2 * 3 * 2
"""Per latent of the fields between two frames: there and back, x, y and confidence, float16."""

Keep = Callable[[str, Mapping[str, Any]], KeptPairs | None]
"""(name, what it depends on beside the frames) -> what earlier edits left; None where nothing is kept."""

STEPS, FIELDS = "flow_steps", "flow_fields"
"""Names under which flow between neighbours, and fields between any two frames, are kept."""


class FlowCorrespondence(Pairwise):
    """Token maps from dense optical flow (DIS: Kroeger et al., ECCV 2016), chained from frame to frame.

    Flow is estimated only between neighbours, which differ little, and chained to frames further away. This follows
    fast motion that direct estimation loses after a few frames (docs/speed.md).

    The confidence of a pixel is 1 where the flow there and back returns to it and falls to 0 where it misses by more
    than the tolerance of Sundaram et al. (ECCV 2010, equation 5), as it does at occlusions.

    Args:
        frames: f H W 3 uint8, the source's frames.
        height, width: the finest token grid, that is, the latents' size; coarser ones are averages of it.
        folder: where flow is on disk.
        smoothness: weight of smoothness in the refinement.
        keep: where flow is kept for later edits; by default nowhere. It is kept as it is used, so that an edit that
            reads it is the same to the bit.
    """

    needs_network = False

    def __init__(
        self,
        frames: Frames,
        height: int,
        width: int,
        folder: Path | None = None,
        *,
        smoothness: float = SMOOTHNESS,
        keep: Keep = lambda *_: None,
    ) -> None:
        self._frames = frames
        self._grid = height, width
        self.resolution = flow_resolution(frames.shape[1], height)
        self._smoothness = smoothness
        self._upscaling = UPSCALING if self.resolution * max(height, width) < SMALL else 1
        made_from = {
            "grid": [height, width],
            "resolution": self.resolution,
            "upscaling": self._upscaling,
            "smoothness": smoothness,
            "estimator": [cv2.__version__, cv2.getCPUFeaturesLine()],  # which decide the last bits
        }
        super().__init__(folder, keep(FIELDS, made_from))
        self._kept_steps = keep(STEPS, made_from)
        self._steps = PairFile(folder, self._kept_steps)

    def find(self, first: int, second: int) -> np.ndarray:
        """The fields there and back (see `Pairwise.find`), from flows chained over the frames between."""
        steps = [self._steps.get((frame, frame + 1), self.find_step) for frame in range(first, second)]
        forward = chain_flows([there for there, _ in steps])
        backward = chain_flows([back for _, back in reversed(steps)])
        return np.stack([self.reduce(forward, backward), self.reduce(backward, forward)])

    def find_step(self, first: int, second: int) -> np.ndarray:
        """Flow there and back between two frames, 2 H W 2 float16, in samples of which a latent has `resolution`."""
        a, b = self._grey(first), self._grey(second)
        size = [self.resolution * side for side in reversed(self._grid)]
        flows = (optical_flow(*pair, fine=True, smoothness=self._smoothness) for pair in ((a, b), (b, a)))
        coarser = [cv2.resize(flow, size, interpolation=cv2.INTER_AREA) / self._upscaling for flow in flows]
        return np.stack(coarser).astype(np.float16)

    @property
    def kept(self) -> list[tuple[PairFile, KeptPairs]]:
        """What was found, flow between neighbours included, and where it is kept."""
        return [*super().kept, *([] if self._kept_steps is None else [(self._steps, self._kept_steps)])]

    def reduce(self, flow: np.ndarray, back: np.ndarray) -> np.ndarray:
        """Flow and confidence on the finest token grid, h w 3 float16, from flows H W 2 there and back."""
        height, width = flow.shape[:2]
        relative = flow / np.array([width, height], np.float32)
        field = np.dstack([relative, confidence(flow, back)])
        return cv2.resize(field, self._grid[::-1], interpolation=cv2.INTER_AREA).astype(np.float16)

    def _grey(self, frame: int) -> np.ndarray:
        """H W uint8, at the size at which flow is estimated."""
        grey = cv2.cvtColor(self._frames[frame], cv2.COLOR_RGB2GRAY)
        height, width = (self._upscaling * self.resolution * side for side in self._grid)
        shrinks = height < grey.shape[0]
        return cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)


def flow_resolution(image_height: int, height: int) -> int:
    """Samples of kept flow along each side of a latent, of which an image has so many rows."""
    return max(MIN_RESOLUTION, image_height // height // 2)


def optical_flow(
    first: np.ndarray, second: np.ndarray, *, fine: bool = False, smoothness: float = SMOOTHNESS
) -> np.ndarray:
    """Where each pixel of `first` lies in `second`, as a displacement (H W 2, x and y in pixels, float32).

    Args:
        first, second: grey images, H W uint8.
        fine: estimate down to single pixels, which are four times as many, with a smoother flow.
        smoothness: weight of smoothness in the refinement of fine flow.
    """
    library: Any = cv2  # whose type stubs leave this class out
    estimator = library.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    if fine:
        estimator.setFinestScale(0)
        estimator.setVariationalRefinementAlpha(smoothness)
    return estimator.calc(first, second, None)


def chain_flows(steps: Sequence[np.ndarray]) -> np.ndarray:
    """Where each pixel of the first frame lies in the last (H W 2 float32), from the flows between neighbours.

    Args:
        steps: flows H W 2 from each frame to the next, in pixels; at least one.
    """
    flow = steps[0].astype(np.float32)
    for step in steps[1:]:
        flow += warp_image(step.astype(np.float32), flow)
    return flow


def confidence(flow: np.ndarray, back: np.ndarray) -> np.ndarray:
    """How well a flow (H W 2, pixels) is confirmed by the one back: H W in [0, 1], 0.5 at the tolerance."""
    there = warp_image(back, flow)
    missed = np.square(flow + there).sum(-1)
    tolerance = 0.01 * (np.square(flow).sum(-1) + np.square(there).sum(-1)) + 0.5
    height, width = flow.shape[:2]
    x = np.arange(width) + flow[..., 0]
    y = np.arange(height)[:, None] + flow[..., 1]
    inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
    return (inside / (1 + np.square(missed / tolerance))).astype(np.float32)


def warp_image(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """An image (H W c) sampled bilinearly where a flow (H W 2, pixels) points; the border repeats beyond the image."""
    height, width = flow.shape[:2]
    x = (np.arange(width, dtype=np.float32) + flow[..., 0]).astype(np.float32)
    y = (np.arange(height, dtype=np.float32)[:, None] + flow[..., 1]).astype(np.float32)
    return cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
