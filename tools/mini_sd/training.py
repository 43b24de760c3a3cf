"""What every training stage shares: device, resuming after a kill, weight averaging, learning rate, logging.

Knows no network and no loss. A run is a folder with one safetensors file, written under another name first
and then renamed, so that a kill at any moment leaves the last whole checkpoint.
"""

import argparse
import json
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tools.mini_sd.muon import Muon

RUNS = Path("runs/mini_sd")


def stage_arguments(description: str | None, steps: int, batch: int, rate: float) -> argparse.ArgumentParser:
    """The options that every training stage has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=RUNS, help="folder of training state, kept out of git")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--batch", type=int, default=batch)
    parser.add_argument("--rate", type=float, default=rate, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--save-minutes", type=float, default=4)
    parser.add_argument("--minutes", type=float, help="end after so many, at the latest, learning rate included")
    return parser


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` is the fastest one there is."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def one_cycle(step: int, done: float, warmup: int = 100) -> float:
    """Share of the peak learning rate: a short linear rise, then half a cosine down to a hundredth.

    Args:
        step: from 0.
        done: share of the training, in [0,1].
        warmup: steps of the rise.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


@dataclass
class Average:
    """An exponential moving average of a network's weights, which forgets its start quickly."""

    network: nn.Module
    decay: float
    shadow: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.shadow = {name: value.detach().clone() for name, value in self.network.state_dict().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the average towards the weights; in the first steps it follows them closely."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        floating = {name: value for name, value in self.network.state_dict().items() if value.is_floating_point()}
        torch._foreach_lerp_([self.shadow[name] for name in floating], list(floating.values()), weight)


@dataclass
class Run:
    """One training run: networks, their averages, the optimiser and the step, saved and restored together."""

    folder: Path
    networks: dict[str, nn.Module]
    steps: int
    rate: float
    average_decay: float = 0.999
    weight_decay: float = 0.01
    minutes: float | None = None
    step: int = 0
    averages: dict[str, Average] = field(init=False)
    optimiser: torch.optim.Optimizer = field(init=False)

    @classmethod
    def of(
        cls, arguments: argparse.Namespace, stage: str, networks: dict[str, nn.Module], average_decay: float = 0.999
    ) -> "Run":
        """The run of a stage, as `stage_arguments` has it."""
        folder = arguments.runs / stage
        return cls(folder, networks, arguments.steps, arguments.rate, average_decay, minutes=arguments.minutes)

    def __post_init__(self) -> None:
        self.averages = {name: Average(network, self.average_decay) for name, network in self.networks.items()}
        self.optimiser = Muon(self.parameters(), lr=self.rate, weight_decay=self.weight_decay)
        self.resume()
        self._resumed, self._start = self.step / self.steps, time.monotonic()

    @property
    def done(self) -> float:
        """Share of the training, in [0,1]: of the steps, or of the time from where it was resumed, the larger."""
        share = self.step / self.steps
        if self.minutes is None:
            return share
        spent = (time.monotonic() - self._start) / (60 * self.minutes)
        return min(1.0, max(share, self._resumed + (1 - self._resumed) * spent))

    def parameters(self) -> list[nn.Parameter]:
        """Of all networks, what is trained."""
        return [p for network in self.networks.values() for p in network.parameters() if p.requires_grad]

    def descend(self) -> None:
        """One step of the optimiser, with clipped gradients; counted, so that a checkpoint right after it is right."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.rate * one_cycle(self.step, self.done)
        nn.utils.clip_grad_norm_(self.parameters(), 1.0)
        self.optimiser.step()
        for average in self.averages.values():
            average.update(self.step)
        self.step += 1

    def loop(self, save_minutes: float) -> Iterator[int]:
        """Yields every step that is left, each to be taken by one `descend`; saves every few minutes and at the end."""
        saved = time.monotonic()
        while self.done < 1:
            yield self.step
            if time.monotonic() - saved > 60 * save_minutes:
                self.save()
                saved = time.monotonic()
        self.save()

    def save(self) -> None:
        """Writes the checkpoint; the one before stays until the new one is whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, Tensor] = {}
        for name, network in self.networks.items():
            tensors |= {f"network.{name}.{key}": value for key, value in network.state_dict().items()}
            tensors |= {f"average.{name}.{key}": value for key, value in self.averages[name].shadow.items()}
        for index, slots in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{slot}": value for slot, value in slots.items()}
        save_tensors(tensors, self.folder / "state.safetensors", {"step": str(self.step)})

    def resume(self) -> None:
        """Goes on from the last checkpoint, with the optimiser's state where the checkpoint has it."""
        file = self.folder / "state.safetensors"
        if not file.exists():
            return
        tensors = load_file(file)
        self.step = checkpoint_step(file)
        for name, network in self.networks.items():
            network.load_state_dict(_under(tensors, f"network.{name}."))
            for key, value in _under(tensors, f"average.{name}.").items():
                self.averages[name].shadow[key].copy_(value)
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in _under(tensors, "optimiser.").items():
            index, slot = key.split(".")
            slots.setdefault(int(index), {})[slot] = value
        if slots:
            state = self.optimiser.state_dict()
            self.optimiser.load_state_dict({"state": slots, "param_groups": state["param_groups"]})
        print(f"resumed {self.folder} at step {self.step}", flush=True)


def load_averages(folder: Path, networks: dict[str, nn.Module]) -> int:
    """Puts a run's averaged weights into networks; returns the step they are from."""
    file = folder / "state.safetensors"
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing; train that stage first")
    tensors = load_file(file)
    for name, network in networks.items():
        network.load_state_dict(_under(tensors, f"average.{name}."))
    return checkpoint_step(file)


def save_tensors(tensors: dict[str, Tensor], file: Path, metadata: dict[str, str]) -> None:
    """Writes a safetensors file under another name, then renames it."""
    unfinished = file.with_suffix(".unfinished")
    # Cloned, as tied weights share memory, which the format refuses.
    save_file({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}, unfinished, metadata)
    os.replace(unfinished, file)


def checkpoint_step(file: Path) -> int:
    """The step in a checkpoint's header."""
    return int(header(file)["step"])


def header(file: Path) -> dict[str, str]:
    """What was written into a safetensors file beside its tensors."""
    with file.open("rb") as stream:
        return json.loads(stream.read(int.from_bytes(stream.read(8), "little"))).get("__metadata__", {})


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


class Progress:
    """Prints the mean of each figure over the last steps, with the time a step takes and the time left."""

    def __init__(self, steps: int, every: int = 50) -> None:
        self.steps, self.every = steps, every
        self.sums: dict[str, float | Tensor] = {}
        self.count, self.start = 0, time.monotonic()

    def report(self, step: int, **figures: float | Tensor) -> None:
        """Takes in the figures of a step; those on a GPU are read when they are printed."""
        for name, value in figures.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1
        if (step + 1) % self.every and step + 1 != self.steps:
            return
        seconds = (time.monotonic() - self.start) / self.count
        means = "  ".join(f"{name} {float(total) / self.count:.4f}" for name, total in self.sums.items())
        left = (self.steps - step - 1) * seconds / 60
        print(f"{step + 1}/{self.steps}  {means}  {seconds:.3f} s/step  {left:.0f} min left", flush=True)
        self.sums, self.count, self.start = {}, 0, time.monotonic()
