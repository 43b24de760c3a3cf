"""What a batch costs beyond its edits: short clips with several edits each, one by one, in a batch, and on Ray.

Each way runs the same jobs from nothing, in a process of its own. "one by one" calls `run` for each job with the model
loaded once, as a careful script would. `seconds` are of the whole process, with imports and the start and end of Ray;
`overhead` is what they exceed the sum of the process's own edits by; `to_one_by_one` is a ratio of whole processes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import tokenflow
from benchmarks.output import rows_table, write_json
from benchmarks.sampling import RATE
from tokenflow.config import Config
from tokenflow.events import Event, Progress
from tokenflow.pipeline.job import open_model

SOURCES = {
    "dog_walk": "a dog on grass, 3d style",
    "cat_walk": "a cat on a wooden floor, 3d style",
    "car_drive": "a car on a road, 3d style",
}
EDITS = ["a tiger on grass, 3d style", "a golden dog, 3d style", "a marble cat, 3d style", "a bus at night, flat style"]
CLIPS = 8


def configurations(frames: int, steps: int, folder: Path, model: str) -> list[Config]:
    """Eight parts of the clips that ship, in a row within each clip, with four edits each."""
    starts = [(name, prompt, part * frames / RATE) for part in range(CLIPS) for name, prompt in SOURCES.items()][:CLIPS]
    return [
        Config.model_validate(
            {
                "clip": {"path": f"data/clips/{name}.mp4", "prompt": prompt, "start": start, "frames": frames},
                "model": {"path": model},
                "inversion": {"steps": steps, "warn_below_psnr": 0},
                "edit": {"prompt": edit, "steps": steps},
                "output": {"dir": folder / "out" / f"{clip}-{index}"},
                "trajectories": {"dir": folder / "trajectories"},
            }
        )
        for clip, (name, prompt, start) in enumerate(starts)
        for index, edit in enumerate(EDITS)
    ]


def run(way: str, configs: list[Config], folder: Path, workers: int) -> dict[str, float]:
    """Do all jobs in one way: the seconds of all edits, summed, and how many inversions were made."""
    if way == "one by one":
        return run_one_by_one(configs)
    engine = "ray" if way == "ray" else "local"
    records = tokenflow.edit_many(configs, engine=engine, workers=workers, run_dir=folder / "run", progress=False)
    if any(record.state != "done" for record in records):
        raise RuntimeError(f"{way}: {[record.reason for record in records if record.reason]}")
    return {
        "edits": sum(record.seconds or 0.0 for record in records),
        "inversions": sum(bool(record.inverted) for record in records),
    }


def run_one_by_one(configs: list[Config]) -> dict[str, float]:
    """Call `run` for each job, with the model loaded once."""
    model = open_model(configs[0].model)
    inverted: set[int] = set()
    begin = time.perf_counter()
    for number, config in enumerate(configs):

        def listen(event: Event, number: int = number) -> None:
            if isinstance(event, Progress) and event.stage == "invert":
                inverted.add(number)

        tokenflow.run(config, model=model, on_event=listen)
    return {"edits": time.perf_counter() - begin, "inversions": len(inverted)}


def measure(way: str, arguments: argparse.Namespace) -> dict[str, float]:
    """Run one way in a process of its own, and time it from start to end."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.batch", "--way", way, "--folder", folder]
        for name in ("frames", "steps", "model", "workers"):
            command += [f"--{name}", str(getattr(arguments, name))]
        begin = time.perf_counter()
        shown = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        whole = time.perf_counter() - begin
    return {"whole": whole, **json.loads(shown.splitlines()[-1])}


def main() -> None:
    """Measure, print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="data/models/mini-sd")
    parser.add_argument("--frames", type=int, default=8, help="per clip; up to 8")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/batch.json"))
    parser.add_argument("--way", help=argparse.SUPPRESS)  # set in the processes that are measured
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        configs = configurations(arguments.frames, arguments.steps, arguments.folder, arguments.model)
        print(json.dumps(run(arguments.way, configs, arguments.folder, arguments.workers)))
        return
    measured = {way: measure(way, arguments) for way in ("one by one", "batch", "ray")}
    rows = [
        {
            "way": way,
            "jobs": CLIPS * len(EDITS),
            "inversions": figures["inversions"],
            "seconds": figures["whole"],
            "edits_seconds": figures["edits"],
            "overhead": figures["whole"] * (arguments.workers if way != "one by one" else 1) / figures["edits"] - 1,
            "to_one_by_one": figures["whole"] / measured["one by one"]["whole"],
        }
        for way, figures in measured.items()
    ]
    settings = {name: getattr(arguments, name) for name in ("model", "frames", "steps", "workers")}
    content = {"torch": torch.__version__, "threads": torch.get_num_threads(), **settings, "rows": rows}
    write_json(arguments.out, content)
    print(rows_table(rows))


if __name__ == "__main__":
    main()
