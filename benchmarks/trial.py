"""What a trial of three frames costs beside the edit of the whole clip, and how near to it its frames are.

Both from nothing, with tokenflow's defaults and the model loaded already: `tokenflow.run` inverts the clip, checks the
inversion, edits, measures and writes; `tokenflow.trial` inverts and edits three of its frames. Frames are compared
before any codec. Prints a table, and writes benchmarks/results/trial.json.

    python -m benchmarks.trial
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

import tokenflow
from benchmarks.output import rows_table, write_json
from tokenflow.report import versions

COUNT = 3
CONFIGS = {
    "pnp": Path("configs/dog_to_tiger.yaml"),
    "sdedit": Path("configs/dog_to_golden_dog_sdedit.yaml"),
    "controlnet": Path("configs/dog_on_snow_controlnet.yaml"),
}
RESULTS = Path("benchmarks/results/trial.json")

T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """A result and the processor's seconds it took, which other work on the machine changes little."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    """In dB, of two clips f H W 3 uint8 as one image each."""
    return float(-10 * np.log10(np.square((first.astype(float) - second) / 255).mean()))


def measure(mode: str, path: Path, folder: Path) -> dict[str, str | int | float]:
    """A row: seconds of both, their ratio, and PSNR of the trial to the same frames of the whole edit."""
    places = [f"output.dir={folder / mode}", f"trajectories.dir={folder / f'{mode}-trajectories'}"]
    config = tokenflow.load_config(path, [*places, "output.codec=ffv1", "output.container=mkv"])
    model = tokenflow.load_model(config.model.path)
    whole, whole_seconds = timed(lambda: tokenflow.run(config, model=model))
    tried, seconds = timed(lambda: tokenflow.trial(config, COUNT, model=model))
    same = whole.frames[list(tried.indices)]
    return {
        "mode": mode,
        "frames": len(whole.frames),
        "whole, CPU s": whole_seconds,
        "trial, CPU s": seconds,
        "ratio": seconds / whole_seconds,
        "trial to whole, dB": psnr(tried.edited, same),
        "whole to source, dB": psnr(same, tried.source),
    }


def main() -> None:
    """Measure each mode, print the table and write it."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(mode, path, Path(folder)) for mode, path in CONFIGS.items()]
    print(rows_table(rows))
    write_json(RESULTS, {"count": COUNT, "versions": versions(), "rows": rows})


if __name__ == "__main__":
    main()
