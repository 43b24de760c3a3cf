"""`make keyframes`: frames of the perfect edit carried through drawn clips, beside what anyone could write.

    python -m benchmarks.keyframes

One, two and three perfect frames (the first; and the last; and the middle) are given. The baseline adds what these add
to the source's pixels, warped along optical flow (DIS, OpenCV's medium preset) chained from frame to frame, and blended
by distance. Both see the clips as H.264 leaves them, as users do. Writes benchmarks/results/keyframes.json
and docs/keyframes.jpg.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np

from benchmarks.clips import TUNING
from benchmarks.output import rows_table, write_json
from benchmarks.truth import Truth, shipped
from tokenflow.correspondence.flow import chain_flows, optical_flow, warp_image
from tokenflow.propagation.pixels.edited_frames import carry, closeness
from tokenflow.report import contact_sheet
from tokenflow.video import Video
from tools.mini_sd.build_clips import write_video

SHEET, SHOWN = Path("docs/keyframes.jpg"), ("car_drive", "bus")
RESULTS = Path("benchmarks/results/keyframes.json")
COUNTS = 1, 2, 3
FIGURES = "psnr", "warp_error_e3", "at_given", "detail"
SHIPPED = ("dog_walk", "tiger"), ("cat_walk", "golden_cat"), ("car_drive", "bus"), ("dog_walk", "dog_on_snow")


@dataclass(frozen=True)
class Given:
    """A clip with its perfect edit, and how many frames of that are given.

    Attributes:
        name: of clip and edit.
        truth: both.
        source: f H W 3 uint8, decoded.
        count: how many frames are given.
    """

    name: str
    truth: Truth
    source: np.ndarray
    count: int

    @cached_property
    def edited(self) -> dict[int, np.ndarray]:
        """The given frames, H W 3 uint8 each."""
        last = len(self.source) - 1
        indices = {1: [0], 2: [0, last], 3: [0, last // 2, last]}[self.count]
        return {index: (255 * self.truth.perfect[index]).round().astype(np.uint8) for index in indices}


def decoded(truth: Truth) -> np.ndarray:
    """A drawn clip as its video file shows it, f H W 3 uint8."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(truth.clip.pictures(), path)
        return Video.read(path).frames


def baseline(given: Given) -> np.ndarray:
    """The given frames' differences along chained flow, f H W 3 uint8."""
    greys = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in given.source]
    forward = [optical_flow(*pair) for pair in pairwise(greys)]
    backward = [optical_flow(*pair) for pair in ((after, before) for before, after in pairwise(greys))]
    frames = []
    for index, frame in enumerate(given.source):
        weights = {index: 1.0} if index in given.edited else closeness(index, sorted(given.edited))
        image = frame.astype(np.float32)
        for keyframe, weight in weights.items():
            difference = given.edited[keyframe].astype(np.float32) - given.source[keyframe]
            steps = forward[index:keyframe] if keyframe > index else backward[keyframe:index][::-1]
            image += weight * (warp_image(difference, chain_flows(steps)) if steps else difference)
        frames.append(np.clip(image, 0, 255).round().astype(np.uint8))
    return np.stack(frames)


def carried(given: Given) -> np.ndarray:
    """The same by tokenflow's carrying, without sampling, f H W 3 uint8."""
    return np.stack([frame.image for frame in carry(given.source, given.edited)[1]])


METHODS = {"baseline": baseline, "tokenflow": carried}


def measure(name: str, truth: Truth) -> Iterator[dict[str, Any]]:
    """A row per number of given frames and method."""
    source = decoded(truth)
    for count in COUNTS:
        given = Given(name, truth, source, count)
        for method, make in METHODS.items():
            images = make(given)
            figures = truth.figures(images)
            yield {
                "edit": name,
                "given": count,
                "method": method,
                "psnr": figures["perfect_psnr"],
                "warp_error_e3": figures["warp_error_e3"],
                "at_given": at_given(truth.warp_errors(images)[:, 0], given.edited),
                "detail": figures["detail"],
            }


def at_given(errors: np.ndarray, given: Collection[int]) -> float:
    """Warp error of pairs with a given frame, relative to that of all others.

    Args:
        errors: f-1, of each pair of neighbours.
        given: indices of the given frames.
    """
    touched = np.array([frame in given or frame + 1 in given for frame in range(len(errors))])
    return float(errors[touched].mean() / errors[~touched].mean())


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean of each figure over edits, by number of given frames and method."""
    averaged = []
    for count in COUNTS:
        for method in METHODS:
            chosen = [row for row in rows if (row["given"], row["method"]) == (count, method)]
            figures = {key: float(np.mean([row[key] for row in chosen])) for key in FIGURES}
            averaged.append({"given": count, "method": method, **figures})
    return averaged


def write_sheet() -> None:
    """One edit from its first frame: source, baseline, tokenflow and the perfect edit, six frames each."""
    truth = shipped(*SHOWN)
    given = Given("", truth, decoded(truth), count=1)
    perfect = (255 * truth.perfect).round().astype(np.uint8)
    rows = {
        "source": given.source,
        "the first perfect frame, its difference carried along flow": baseline(given),
        "the same frame, carried by tokenflow": carried(given),
        "the perfect edit": perfect,
    }
    shown = np.linspace(0, len(perfect) - 1, 6).round().astype(int)
    contact_sheet({label: list(frames[shown]) for label, frames in rows.items()}).save(SHEET, quality=92)


def main() -> None:
    """Measure, print, and write the JSON and the sheet."""
    write_sheet()
    bundled = [(f"{clip}: {edit}", shipped(clip, edit)) for clip, edit in SHIPPED]
    groups = {"bundled": bundled, "tuning": [(case.name, case.truth) for case in TUNING]}
    content = {}
    for group, edits in groups.items():
        rows = [row for edit in edits for row in measure(*edit)]
        content[group] = {"means": means(rows), "rows": rows}
        print(f"{group}:\n{rows_table(rows)}\n\n{rows_table(content[group]['means'])}\n", flush=True)
    write_json(RESULTS, content)


if __name__ == "__main__":
    main()
