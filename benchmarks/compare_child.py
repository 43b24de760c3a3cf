"""One side of `benchmarks.compare`: stage 1 and an edit per mode with the tokenflow of one working tree, as JSON.

Run as a script by `benchmarks.compare`, with the tree on PYTHONPATH. It imports nothing of benchmarks/, since the other
tree has another one.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel
from torch.nn.modules.module import register_module_forward_pre_hook

import tokenflow
from tokenflow.config import Config

MODEL = {"path": "data/models/mini-sd", "device": "cpu", "dtype": "float32"}
CLIP = {"path": "data/clips/dog_walk.mp4", "prompt": "a dog on grass, 3d style"}
PROMPT = "a tiger on grass, 3d style"
STRENGTH = 0.76
"""Of SDEdit: 19 of 25 steps however fractions are rounded."""

Stages = tuple[Callable[[Config], Any], Callable[[Config], Any]]


class Calls:
    """Counts the UNet's forward calls, and the samples in them."""

    def __init__(self) -> None:
        self.counts = [0, 0]
        self._search = register_module_forward_pre_hook(self._find)

    def _find(self, module: Any, inputs: Any) -> None:
        """Count at the UNet alone as soon as it is found: a hook on every module would cost time."""
        if isinstance(module, UNet2DConditionModel):
            self._search.remove()
            module.register_forward_pre_hook(self._count)
            self._count(module, inputs)

    def _count(self, _module: Any, inputs: Any) -> None:
        self.counts[0] += 1
        self.counts[1] += len(inputs[0])


def load_stages() -> Stages:
    """(stage 1, stage 2) of this tree, with its model loaded."""
    if hasattr(tokenflow, "run"):
        model = tokenflow.load_model(**MODEL)
        return (
            lambda config: tokenflow.preprocess(config, model=model),
            lambda config: tokenflow.run(config, model=model),
        )
    return load_stages_of_first_edition()


def load_stages_of_first_edition() -> Stages:
    """The same for commits before `tokenflow.run`, the last of which is d62ee0e."""
    from tokenflow.backbones.loading import load_backbone

    backbone = load_backbone(MODEL["path"], MODEL["device"], MODEL["dtype"])
    return (
        lambda config: tokenflow.preprocess(config, backbone=backbone, progress=False),
        lambda config: tokenflow.edit(config, backbone=backbone, progress=False),
    )


@contextmanager
def measured(figures: dict[str, Any], calls: Calls) -> Iterator[None]:
    """Fill in the seconds, CPU seconds, network calls and peak memory (MiB) of the body."""
    before = list(calls.counts)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # restarts the peak on Linux
    begin, begin_cpu = time.perf_counter(), time.process_time()
    yield
    figures["seconds"], figures["cpu_seconds"] = time.perf_counter() - begin, time.process_time() - begin_cpu
    figures["calls"], figures["samples"] = (now - then for now, then in zip(calls.counts, before, strict=True))
    figures["peak_mb"] = peak_mb()


def peak_mb() -> float:
    """The process's peak resident size in MiB."""
    import resource  # POSIX only

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def configure(mode: str, frames: int, steps: int, folder: Path) -> Config:
    """An edit of a clip that ships; settings that have the same name in every tree."""
    return Config.model_validate(
        {
            "clip": {**CLIP, "frames": frames},
            "model": MODEL,
            "inversion": {"steps": steps, "warn_below_psnr": 0},
            "edit": {"prompt": PROMPT, "mode": mode, "steps": steps, "sdedit": {"strength": STRENGTH}},
            "output": {"dir": folder / mode},
            "trajectories": {"dir": folder / "trajectories"},
        }
    )


def main() -> None:
    """Measure, and print one line of JSON: by stage, its seconds, network calls, samples and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tree", type=Path)
    parser.add_argument("--frames", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--modes", nargs="+", required=True)
    arguments = parser.parse_args()
    if not Path(tokenflow.__file__).resolve().is_relative_to(arguments.tree.resolve()):
        sys.exit(f"expected the tokenflow of {arguments.tree}, got {tokenflow.__file__}")
    calls = Calls()
    invert, edit = load_stages()
    figures: dict[str, dict[str, Any]] = {"stage 1": {}, **{mode: {} for mode in arguments.modes}}
    with tempfile.TemporaryDirectory() as folder:
        configs = [configure(mode, arguments.frames, arguments.steps, Path(folder)) for mode in arguments.modes]
        with measured(figures["stage 1"], calls):
            invert(configs[0])
        for mode, config in zip(arguments.modes, configs, strict=True):
            with measured(figures[mode], calls):
                edit(config)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
