"""`python -m benchmarks.cuts`: which cuts are found in drawn clips, beside PySceneDetect's where it is installed.

Without a cut: each clip of clips.py, also every second and every third frame of it, which is fast motion. With one: two
clips joined, every fifth of all pairs; and the same in the dark, at 30 % of their brightness. Prints a table; counts
are of clips.
"""

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.clips import BENCHMARK, TUNING
from benchmarks.output import rows_table
from benchmarks.sampling import RATE
from tokenflow.correspondence.cuts import MIN_LEFT, find_cuts, unexplained

DARK = 0.3

Detector = Callable[[np.ndarray], tuple[int, ...]]
"""Frames f H W 3 uint8 -> the frames at which shots begin."""


def scene_detectors() -> dict[str, Detector]:
    """PySceneDetect's, with their defaults but for the shortest scene; none without it."""
    try:
        from scenedetect import FrameTimecode
        from scenedetect.detectors import AdaptiveDetector, ContentDetector
    except ImportError:
        return {}

    def run(detector: type) -> Detector:
        def found(frames: np.ndarray) -> tuple[int, ...]:
            running, cuts = detector(min_scene_len=2), []
            for index, frame in enumerate(frames):
                cuts += running.process_frame(FrameTimecode(index, float(RATE)), np.ascontiguousarray(frame[..., ::-1]))
            return tuple(cut.frame_num for cut in cuts)

        return found

    return {"PySceneDetect, content": run(ContentDetector), "PySceneDetect, adaptive": run(AdaptiveDetector)}


def uncut(clips: dict[str, np.ndarray]) -> Iterator[np.ndarray]:
    """Clips of one shot, slow and fast."""
    for frames in clips.values():
        yield from (frames[::step] for step in (1, 2, 3))


def cut(clips: dict[str, np.ndarray]) -> list[tuple[np.ndarray, int]]:
    """Pairs of clips, and where the second begins."""
    pairs = [(first, second) for first in clips for second in clips if first != second][::5]
    return [(np.concatenate([clips[first], clips[second]]), len(clips[first])) for first, second in pairs]


def main() -> None:
    """Find the cuts, and print how many were missed and how many are none."""
    clips = {case.clip: case.truth.frames for case in (*TUNING, *BENCHMARK)}
    one_shot, two_shots = list(uncut(clips)), cut(clips)
    rows = []
    for name, detector in {"tokenflow": find_cuts, **scene_detectors()}.items():
        found = [(set(detector(frames)), {where}) for frames, where in two_shots]
        in_the_dark = [where in detector((DARK * frames).astype(np.uint8)) for frames, where in two_shots]
        rows.append(
            {
                "detector": name,
                "cuts": len(two_shots),
                "missed": sum(not wanted <= cuts for cuts, wanted in found),
                "missed in the dark": len(two_shots) - sum(in_the_dark),
                "false cuts": sum(bool(cuts - wanted) for cuts, wanted in found),
                "without a cut": len(one_shot),
                "false, no cut": sum(bool(detector(frames)) for frames in one_shot),
            }
        )
    print(rows_table(rows))
    most = max(max(unexplained(frames)) for frames in one_shot)
    least = min(unexplained(frames)[where - 1] for frames, where in two_shots)
    print(
        f"\nLeft after motion compensation, relative to contrast: at most {most:.3f} without a cut, "
        f"at least {least:.3f} at one; {MIN_LEFT=}"
    )


if __name__ == "__main__":
    main()
