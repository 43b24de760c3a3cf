"""`make bench`: what an edit costs, ours beside per-frame editing and the published cost structure, in one process.

Every method edits the same clip with the same model, trajectory, steps and seed. Rounds alternate in their order, and
times are given as ratios within a round, since the machine is shared. Network cost is counted, not timed: FLOPs as a
ratio to one plain UNet call a frame and step.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.published import PublishedTokenFlow
from benchmarks.truth import Truth, shipped
from tokenflow.backbones.base import Backbone
from tokenflow.backbones.loading import load_backbone
from tokenflow.config import PnP as Settings
from tokenflow.correspondence.flow import FlowCorrespondence
from tokenflow.denoise import Predict, denoise
from tokenflow.frames import as_pictures, as_tensor
from tokenflow.inversion import invert
from tokenflow.modes.base import Source
from tokenflow.modes.pnp import PnP
from tokenflow.propagation import Editing, Guidance, PerFrame, TokenFlow
from tokenflow.schedule import CLEAN
from tokenflow.trajectory import Trajectory

STEPS, BATCH, GUIDANCE, SEED = 25, 8, 5.0, 0
EDITS = {
    "dog → tiger": ("dog_walk", "tiger"),
    "cat → golden cat": ("cat_walk", "golden_cat"),
    "car → bus": ("car_drive", "bus"),
}

Method = Callable[[Source, Guidance], Predict]


def ours(**changes: object) -> Method:
    """TokenFlow as tokenflow does it, with settings of `TokenFlow` changed."""

    def method(source: Source, guidance: Guidance) -> Predict:
        height, width = source.latents(CLEAN, [0]).shape[-2:]
        options: dict = {"interval": BATCH, "window": 8, "seed": SEED, "carry_guidance": True, **changes}
        correspondence = FlowCorrespondence(source.frames, height, width)
        return TokenFlow(editing(source, guidance), BATCH, correspondence=correspondence, **options)

    return method


def editing(source: Source, guidance: Guidance) -> Editing:
    """Plug-and-Play with its defaults."""
    return Editing(source.backbone, PnP(source, Settings()), guidance)


METHODS: dict[str, Method] = {
    "per frame": lambda source, guidance: PerFrame(editing(source, guidance), BATCH),
    "published structure": lambda source, guidance: PublishedTokenFlow(source, Settings(), guidance, BATCH, SEED),
    "ours, guidance per frame": ours(carry_guidance=False),
    "ours": ours(),
}


def invert_clip(backbone: Backbone, truth: Truth, folder: Path) -> Source:
    """The clip's trajectory, as stage 1 makes it."""
    prompt = backbone.embed(truth.prompts[0])
    trajectory = Trajectory(folder, {})
    trajectory.write_frames((frame, Fraction(index), Fraction(1)) for index, frame in enumerate(truth.frames))
    clean = torch.cat([backbone.encode(group) for group in as_tensor(truth.frames).split(BATCH)])
    trajectory.write_latents(CLEAN, [clean])

    def predict(latents: Tensor, timestep: int) -> Tensor:
        return backbone.predict(latents, timestep, prompt)[0]

    steps = backbone.schedule.steps(STEPS)
    for timestep, latents in invert([(CLEAN, clean)], steps, predict, backbone.schedule, batch_size=BATCH):
        trajectory.write_latents(timestep, [latents])
    return Source(backbone, trajectory, trajectory.frames(), prompt)


def run(source: Source, predict: Predict) -> Tensor:
    """Sample the edit: latents f c h w."""
    start, steps = PnP(source, Settings()).start(source.backbone.schedule.steps(STEPS))
    *_, latents = denoise(start, steps, predict, source.backbone.schedule)
    return latents


def flops(work: Callable[[], object]) -> int:
    """Floating-point operations that some work takes, counted by torch."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def measure(backbone: Backbone, truth: Truth, rounds: int) -> list[dict[str, object]]:
    """A row a method: network cost, seconds a frame, time relative to per-frame editing, and figures of the picture."""
    with tempfile.TemporaryDirectory() as folder:
        source = invert_clip(backbone, truth, Path(folder))
        guidance = Guidance(backbone.embed(truth.prompts[1]), backbone.embed(""), GUIDANCE)
        one = source.latents(CLEAN, [0])
        plain = flops(lambda: backbone.predict(one, 500, source.conditioning)) * len(truth.frames) * STEPS
        rows = {name: {"method": name} for name in METHODS}
        seconds: dict[str, list[float]] = {name: [] for name in METHODS}
        for count in range(rounds):
            for name in list(METHODS) if count % 2 == 0 else reversed(METHODS):
                begin = time.perf_counter()
                latents = run(source, METHODS[name](source, guidance))
                seconds[name].append(time.perf_counter() - begin)
                if count == 0:
                    rows[name]["network_calls"] = (
                        flops(lambda name=name: run(source, METHODS[name](source, guidance))) / plain
                    )
                    pictures = np.concatenate([as_pictures(backbone.decode(group)) for group in latents.split(BATCH)])
                    rows[name] |= truth.figures(pictures)
        for name, row in rows.items():
            row["seconds_a_frame"] = median(seconds[name]) / len(truth.frames)
            for other in ("per frame", "published structure"):
                ratios = [mine / theirs for mine, theirs in zip(seconds[name], seconds[other], strict=True)]
                row[f"time_to_{other.replace(' ', '_')}"] = median(ratios)
        return list(rows.values())


def table(rows: list[dict[str, object]]) -> str:
    """Rows as Markdown."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = [f"{row[column]:.3f}" if isinstance(row[column], float) else str(row[column]) for column in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measures, prints a table, and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="data/models/mini-sd")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--edits", nargs="*", default=list(EDITS), choices=list(EDITS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/speed.json"))
    arguments = parser.parse_args()
    backbone = load_backbone(arguments.model)
    rows = [
        {"edit": edit, **row}
        for edit in arguments.edits
        for row in measure(backbone, shipped(*EDITS[edit]), arguments.rounds)
    ]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps({"torch": torch.__version__, "rows": rows}, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
