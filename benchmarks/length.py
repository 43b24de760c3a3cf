"""What length costs: memory, time per frame, and the seams between windows, on one drawn clip at two lengths.

Each length runs both stages in a process of its own. `peak_mb` is the largest resident size of each stage,
`ms_per_frame` its time. Windows end at keyframes, which differ from step to step; `seam` is the warp error along exact
flow between neighbouring frames that such a border separates at the last step, and `within` that of all others.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

import tokenflow
from benchmarks.output import rows_table, write_json
from benchmarks.sampling import DTYPE, RATE
from benchmarks.truth import Truth
from tokenflow.config import Config
from tokenflow.metrics import warp_error
from tokenflow.pipeline.wiring import DEFAULT_INTERVAL
from tokenflow.propagation.keyframes import draw_keyframes, windows
from tokenflow.video import VideoWriter
from tools.mini_sd.build_clips import CLIPS
from tools.mini_sd.clip import Clip

LENGTHS = 64, 512


def long_clip(frames: int) -> Clip:
    """The dog that ships, walking on the spot for so many frames: the same motion per second at every length."""
    clip = CLIPS["dog_walk"]
    seconds = frames / RATE
    motion = replace(clip.motion, travel=(0.0, 0.0), growth=1.0, strides=1.5 * seconds)
    return replace(clip, motion=motion, frames=frames)


def configure(frames: int, steps: int, model: str, folder: Path) -> Config:
    """A golden dog of the long clip, which is written into the folder."""
    clip = long_clip(frames)
    times = [Fraction(frame, RATE) for frame in range(frames)]
    with VideoWriter(folder / "clip.mp4", width=128, height=128, times=times, quality=8) as video:
        for frame in range(frames):
            video.write(np.round(255 * clip.render(frame).picture).astype(np.uint8))
    truth = Truth(clip, clip.with_words(material="golden"))
    return Config.model_validate(
        {
            "clip": {"path": folder / "clip.mp4", "prompt": truth.prompts[0]},
            "model": {"path": model, "dtype": DTYPE},
            "inversion": {"steps": steps, "warn_below_psnr": 0},
            "edit": {"prompt": truth.prompts[1], "steps": steps, "keyframe_interval": DEFAULT_INTERVAL},
            "output": {"dir": folder / "out", "codec": "ffv1", "container": "mkv"},
            "trajectories": {"dir": folder / "trajectories"},
        }
    )


def seams(config: Config, frames: int, steps: int) -> dict[str, float | None]:
    """Warp errors (×1e-3) at the borders of the last step's windows, if it has more than one, and everywhere else."""
    clip = long_clip(frames)
    keyframes = draw_keyframes(frames, DEFAULT_INTERVAL, config.edit.seed, steps - 1)
    filled = [window for window in windows(keyframes, range(frames), config.edit.keyframe_window) if window.between]
    borders = {window.keyframes[-1] for window in filled[:-1]}
    images = tokenflow.open_result(config.output.dir).frames.astype(np.float32) / 255
    errors: dict[bool, list[float]] = {True: [], False: []}
    for frame in range(frames - 1):
        seen = ~clip.occluded(frame, frame + 1)
        error = warp_error(images[frame], images[frame + 1], clip.flow(frame, frame + 1), seen)
        errors[frame in borders].append(1e3 * error)
    return {"seam": float(np.mean(errors[True])) if borders else None, "within": float(np.mean(errors[False]))}


def measure(frames: int, steps: int, model: str) -> dict[str, object]:
    """A row: one length, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        config = configure(frames, steps, model, Path(folder))
        report = tokenflow.run(config).report
        row: dict[str, object] = {"frames": frames}
        for stage in ("preprocess", "edit", "decode"):
            row[f"{stage}_peak_mb"] = report["stage_peak_memory_mb"][stage]
            row[f"{stage}_ms_per_frame"] = 1e3 * report["seconds"][stage] / frames
        return row | seams(config, frames, steps)


def main() -> None:
    """Measure both lengths, print a table and the ratios, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="data/models/mini-sd")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--lengths", type=int, nargs="*", default=LENGTHS)
    parser.add_argument("--one", action="store_true", help="measure one length in this process, and print only JSON")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/length.json"))
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.lengths[0], arguments.steps, arguments.model)))
        return
    rows = []
    for frames in arguments.lengths:
        command = [sys.executable, "-m", "benchmarks.length", "--one", "--lengths", str(frames)]
        command += ["--model", arguments.model, "--steps", str(arguments.steps)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout))
    print(rows_table(rows))
    first, last = rows[0], rows[-1]
    for name in first:
        if name.endswith(("_peak_mb", "_ms_per_frame")):
            print(f"{name}: {last['frames']} frames are {last[name] / first[name]:.3f} × {first['frames']} frames")
    write_json(arguments.out, {"steps": arguments.steps, "rows": rows})


if __name__ == "__main__":
    main()
