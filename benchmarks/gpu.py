"""`make gpu`: everything that needs a graphics card, in at most ten minutes.

First the tests marked `gpu`, then the measurements of `benchmarks.full_size`, the most valuable first. Each result is
on disk as soon as it is there: in benchmarks/results/gpu.json, and as a table in docs/gpu.md. The command stops when
its time is up. Called again, it measures what is missing for the card at hand. It needs no network.
"""

import argparse
import os
import subprocess
import sys
import threading
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from benchmarks.full_size import PLAN, FullSize, Measurement
from benchmarks.gpu_results import GpuResults
from benchmarks.output import rows_table
from tokenflow.models.placement import choose_device, choose_dtype
from tokenflow.report import versions

TESTS = "tests/gpu"
TESTS_SHARE = 0.4
"""Of the time, at most, for the tests."""

SECONDS = 560
NARROW_OUT = Path("runs/gpu-narrow")


def run_tests(limit: float, log: Path) -> str:
    """Run the tests marked `gpu`, and keep their output in a file.

    Returns:
        pytest's summary, such as `15 passed in 61.20s`; or why there is none.
    """
    # Without the project's own options, of which a second -q would leave out the summary.
    options = ["-o", "addopts=", "-q", "-p", "no:cacheprovider", "-m", "gpu"]
    command = [sys.executable, "-m", "pytest", *options, TESTS]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as output:
        try:
            subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, timeout=limit, check=False)
        except subprocess.TimeoutExpired:
            return f"not finished in {limit:.0f} s"
    lines = log.read_text(encoding="utf-8").split("\n")
    return next((line.strip("= ") for line in reversed(lines) if line.strip()), "no output")


def measure(missing: list[Measurement], device: torch.device, results: GpuResults, *, narrow: bool) -> None:
    """Measure what is missing, in order, and store each row at once; one that fails is stored with its error."""
    bench: FullSize | None = None
    for measurement in missing:
        try:
            if bench is None or bench.name != measurement.model:
                bench = None  # two models may not fit at once
                bench = FullSize(measurement.model, device, narrow=narrow)
            row: dict[str, Any] = bench.measure(measurement)
        except Exception as error:  # out of memory, or anything else that must not cost the other figures
            traceback.print_exc()
            row = {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
        results.add(measurement, row)
        print(measurement.name, row, flush=True)


def stop_after(seconds: float) -> threading.Timer:
    """End the process after so many seconds, wherever it is: everything measured is on disk."""

    def stop() -> None:
        print("time is up; the same command measures what is missing", flush=True)
        os._exit(0)

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    return timer


def card_name(device: torch.device, *, narrow: bool) -> str:
    """The name under which results are stored."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return f"{name}, narrow networks" if narrow else name


def main() -> None:
    """Run the tests, then the measurements, and write both down as they are made."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="when to stop")
    parser.add_argument("--out", type=Path, help="a folder for gpu.json and gpu.md, instead of benchmarks/ and docs/")
    parser.add_argument("--no-tests", action="store_true", help="only measure")
    parser.add_argument("--again", action="store_true", help="measure everything again on this card")
    parser.add_argument("--narrow", action="store_true", help="narrow networks and few pixels, to try it on a CPU")
    arguments = parser.parse_args()
    begin = time.monotonic()
    device = choose_device("auto")
    if device.type != "cuda" and not arguments.narrow:
        parser.error("there is no CUDA device; --narrow tries everything out on a CPU")
    out = arguments.out or (NARROW_OUT if arguments.narrow else None)
    results = GpuResults(card_name(device, narrow=arguments.narrow), out)
    if arguments.again:
        results.forget()
    stop_after(arguments.seconds)
    results.describe(
        date=datetime.now(UTC).date().isoformat(),
        dtype=str(choose_dtype("auto", device)).removeprefix("torch."),
        versions=versions(),
    )
    if not (arguments.no_tests or results.tests_passed):
        results.set_tests(run_tests(arguments.seconds * TESTS_SHARE, results.log))
    measure(results.missing(PLAN), device, results, narrow=arguments.narrow)
    print(f"\n{results.tests}\n\n{rows_table(results.rows)}\n\n{time.monotonic() - begin:.0f} s")


if __name__ == "__main__":
    main()
