"""Every model that ships, from nothing: `python -m tools.train_models`.

On a CPU it takes days: stages run one after another, each resumes where it was, and what is done stays done. On a GPU
the models train side by side, and --minutes says how long in all; learning rates fall within that time.

    python -m tools.mini_sd.photographs                              # once; needs Debian's packages
    python -m tools.train_models --minutes 60 --workers 14           # on a GPU

Each model's stages, with what share of the time they take:
"""

import argparse
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tools.mini_flux.tokenizers import write_tokenizers
from tools.mini_sd.training import RUNS, choose_device

MANY = 10**7  # steps that no run of some minutes reaches


@dataclass(frozen=True)
class Stage:
    """One command `python -m tools.<name>`.

    Attributes:
        name: of the module.
        share: of the time of its model, relative to the other stages'; 0 for what encodes, which takes what it takes.
        batch: samples of a step on a GPU, where few cost as much as many.
        draws: whether other processes draw its pictures.
    """

    name: str
    share: float
    batch: int = 96
    draws: bool = False


SHARED = [Stage("mini_sd.autoencoder", 1, 32, draws=True), Stage("mini_sd.latents", 0, draws=True)]
SHARED_PART = 0.25  # of the time, for the autoencoder of all but Sana
MODELS = {
    "mini-sd": [Stage("mini_sd.diffusion", 0.75, 128), Stage("mini_sd.controlnet", 0.25)],
    "classifiers": [
        Stage("mini_sd.classifier", 0.5, 64, draws=True),
        Stage("mini_clip.contrast", 0.5, 128, draws=True),
    ],
    "mini-flux": [
        Stage("mini_flux.diffusion", 0.65, 128),
        Stage("mini_flux.guidance", 0.12),
        Stage("mini_flux.few_step", 0.23),
    ],
    "mini-klein": [Stage("mini_flux.pairs", 0, draws=True), Stage("mini_flux.klein", 1.0, 96)],
    "mini-sana": [
        Stage("mini_sana.autoencoder", 0.4, 32, draws=True),
        Stage("mini_sana.latents", 0, draws=True),
        Stage("mini_sana.diffusion", 0.4, 128),
        Stage("mini_sana.controlnet", 0.06),
        Stage("mini_sana.guidance", 0.06),
        Stage("mini_sana.sprint", 0.08),
    ],
}


def command(stage: Stage, runs: Path, workers: int, minutes: float | None) -> list[str]:
    """What runs a stage; with a limit in minutes, as on a GPU."""
    words = [sys.executable, "-m", f"tools.{stage.name}", "--runs", str(runs)]
    if stage.draws:
        words += ["--workers", str(workers)]
    if minutes is not None and stage.share:
        words += ["--minutes", f"{minutes:.2f}", "--steps", str(MANY), "--batch", str(stage.batch)]
    return words


def run_stages(stages: list[Stage], runs: Path, workers: int, deadline: float | None) -> None:
    """Runs stages one after another, each for its share of the time that is then left.

    Raises:
        subprocess.CalledProcessError: a stage failed; those after it need what it trains.
    """
    for place, stage in enumerate(stages):
        share = stage.share / (sum(later.share for later in stages[place:]) or 1)
        minutes = None if deadline is None else max(0.0, share * (deadline - time.monotonic()) / 60)
        log = runs / "logs" / f"{stage.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        print(f"{stage.name}: {'to its last step' if minutes is None else f'{minutes:.1f} min'}, {log}", flush=True)
        with log.open("a") as output:
            words = command(stage, runs, workers, minutes)
            subprocess.run(words, stdout=output, stderr=subprocess.STDOUT, check=True)


def main() -> None:
    """Runs the stages of the models asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    table = [f"  {model:12} {'  '.join(f'{s.name} {s.share:g}' for s in stages)}" for model, stages in MODELS.items()]
    parser.epilog = "\n".join(table)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--minutes", type=float, help="for all of it; without, every stage runs to its last step")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw; with a GPU, nearly all cores")
    arguments = parser.parse_args()
    start, minutes = time.monotonic(), arguments.minutes
    runs, models = arguments.runs, [MODELS[name] for name in arguments.models]
    shared = [stage for stage in SHARED if not (stage.share and (runs / "autoencoder" / "state.safetensors").exists())]
    write_tokenizers(runs / "tokenizers")
    deadline = None if minutes is None else start + 60 * SHARED_PART * minutes
    run_stages([*shared, Stage("mini_sd.tokenizer", 0)], runs, arguments.workers, deadline)
    deadline = None if minutes is None else start + 60 * minutes
    together = len(models) if choose_device("auto").type == "cuda" else 1
    with ThreadPoolExecutor(together) as pool:
        each = [pool.submit(run_stages, stages, runs, arguments.workers // together, deadline) for stages in models]
    for done in each:
        done.result()


if __name__ == "__main__":
    main()
