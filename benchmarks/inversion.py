"""`make bench`, stage 1: what an inversion and its reconstruction cost, and how well the inversion samples back.

The yardstick is 50 plain steps and 50 back: each step's noise is predicted at (x_s, t), as the published code does.
Encoding and decoding are part of every time; the figures and the video that stage 1 writes are not. The order of the
methods alternates from round to round. PSNR in dB, of latents against the encoded ones and of frames against the
source; the last line is the autoencoder alone.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean, median

import torch
from torch import Tensor

from benchmarks.output import rows_table, write_json
from benchmarks.sampling import BATCH, DTYPE, encoded
from benchmarks.speed import EDITS
from benchmarks.truth import Truth, shipped
from tokenflow.diffusion.batches import as_tensor
from tokenflow.diffusion.inversion import PredictAt, invert_latents
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.parametrisation import step as sampling_step
from tokenflow.diffusion.schedules import Schedule, Step
from tokenflow.metrics import psnr
from tokenflow.models.loading import load_model
from tokenflow.models.model import Model

Invert = Callable[[Tensor, tuple[Step, ...], PredictAt, Schedule], Tensor]
"""(clean latents f c h w, steps, the network, its schedule) -> f c h w at the noisiest level."""


def plain(latents: Tensor, steps: tuple[Step, ...], predict: PredictAt, schedule: Schedule) -> Tensor:
    """Predict at (x_s, t) in place of (x_t, t)."""
    for step in reversed(steps):
        prediction = predict(latents, step.at)
        latents = schedule.parametrisation.step_back(latents, prediction, step.to, step.at)
    return latents


def ours(
    latents: Tensor, steps: tuple[Step, ...], predict: PredictAt, schedule: Schedule, iterations: int = 1
) -> Tensor:
    """As stage 1 does it."""
    start = [(schedule.clean, latents)]
    parametrisation = schedule.parametrisation
    *_, (_, noisiest) = invert_latents(start, steps, predict, parametrisation, batch_size=BATCH, iterations=iterations)
    return noisiest[list(range(len(latents)))]


METHODS: dict[str, tuple[Invert, int]] = {
    "50 plain steps": (plain, 50),
    "25 plain steps": (plain, 25),
    **{f"{count} steps, ours": (ours, count) for count in (7, 8, 10, 15, 25)},
    "10 steps, ours, two iterations": (partial(ours, iterations=2), 10),
}
YARDSTICK = "50 plain steps"


def round_trip(model: Model, truth: Truth, method: Invert, count: int) -> dict[str, float]:
    """Network calls and seconds per frame, and PSNR, of one clip there and back."""
    prompt = model.condition(truth.prompts[0])
    schedule, steps = model.schedule, model.schedule.steps(count)
    calls = 0

    def predict(latents: Tensor, level: Level) -> Tensor:
        nonlocal calls
        calls += len(latents)
        return torch.cat([model.predict(group, level, prompt)[0].cpu() for group in latents.split(BATCH)])

    frames = truth.frames  # drawn when first asked for
    begin = time.perf_counter()
    clean = encoded(model, frames)
    latents = method(clean, steps, predict, schedule)
    for step in steps:
        latents = sampling_step(schedule.parametrisation, latents, predict(latents, step.at), step.at, step.to)
    decoded = torch.cat([model.decode(group).cpu() for group in latents.split(BATCH)])
    seconds = time.perf_counter() - begin
    spread = float(clean.max() - clean.min())
    return {
        "calls_per_frame": calls / len(frames),
        "seconds_per_frame": seconds / len(frames),
        "latents_psnr": float(10 * torch.log10(spread**2 / (latents - clean).square().mean())),
        "frames_psnr": float(psnr(decoded, as_tensor(frames)).mean()),
    }


def autoencoder_psnr(model: Model, truth: Truth) -> float:
    """PSNR of encoding and decoding alone, in dB."""
    latents = encoded(model, truth.frames)
    frames = torch.cat([model.decode(group).cpu() for group in latents.split(BATCH)])
    return float(psnr(frames, as_tensor(truth.frames)).mean())


def measure(model: Model, rounds: int) -> list[dict[str, object]]:
    """A row per method: means over the clips; medians of the time, and of its ratio to the yardstick within a round."""
    truths = [shipped(*names) for names in EDITS.values()]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in METHODS}
    for count in range(rounds):
        for truth in truths:
            for name in METHODS if count % 2 == 0 else reversed(METHODS):
                found[name].append(round_trip(model, truth, *METHODS[name]))
    rows: list[dict[str, object]] = []
    for name, trips in found.items():
        ratios = [
            mine["seconds_per_frame"] / theirs["seconds_per_frame"]
            for mine, theirs in zip(trips, found[YARDSTICK], strict=True)
        ]
        means = {key: mean(trip[key] for trip in trips) for key in ("calls_per_frame", "latents_psnr", "frames_psnr")}
        seconds = {
            "seconds_per_frame": median(trip["seconds_per_frame"] for trip in trips),
            "time_to_50_plain_steps": median(ratios),
        }
        rows.append({"inversion": name, **means, **seconds})
    alone = mean(autoencoder_psnr(model, truth) for truth in truths)
    rows.append({**dict.fromkeys(rows[0]), "inversion": "the autoencoder alone", "frames_psnr": alone})
    return rows


def main() -> None:
    """Measure, print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="data/models/mini-sd")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/inversion.json"))
    arguments = parser.parse_args()
    rows = measure(load_model(arguments.model, dtype=DTYPE), arguments.rounds)
    write_json(arguments.out, {"torch": torch.__version__, "rows": rows})
    print(rows_table(rows))


if __name__ == "__main__":
    main()
