"""`make quantization`: what weights in fewer bits take, and what they do to an edit, beside full precision.

    python -m benchmarks.quantization [--device DEVICE] [--frames N] [--steps N]

Sizes of published networks are counted on weights without values. The rest is measured on the bundled model: each kind
that the device has inverts and edits the clips as a user would, in its own precision, with the same noise. PSNR is
that of its edit against full precision's edit. Time is a ratio within one run. A device's rows replace its earlier ones
in benchmarks/results/quantization.json and docs/quantization.md.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import Flux2Transformer2DModel, FluxTransformer2DModel, SanaTransformer2DModel, UNet2DConditionModel
from torch import nn

import tokenflow
from benchmarks.output import rows_table, write_json
from benchmarks.random_models import SD15, SDXL
from benchmarks.sampling import RATE
from benchmarks.truth import Truth, shipped
from tokenflow.errors import ConfigError
from tokenflow.metrics.words_seen import WordsSeen
from tokenflow.models.placement import choose_device
from tokenflow.models.quantization import KINDS, Quantization, quantised_bytes, quantised_layers, weight_bytes

RESULTS, DOCUMENT = Path("benchmarks/results/quantization.json"), Path("docs/quantization.md")
MODEL, CLASSIFIER = "data/models/mini-sd", "data/models/mini-classifier"
EDITS = (("dog_walk", "tiger"), ("car_drive", "bus"))
HEADING = "## Measured"
FULL = "full"
SANA = {"cross_attention_head_dim": 112, "num_cross_attention_heads": 20, "cross_attention_dim": 2240}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "Stable Diffusion 1.5": lambda: UNet2DConditionModel(sample_size=64, **SD15.unet),
    "Stable Diffusion XL": lambda: UNet2DConditionModel(sample_size=128, **SDXL.unet),
    "Sana 1.6B": lambda: SanaTransformer2DModel(
        num_layers=20, num_attention_heads=70, attention_head_dim=32, caption_channels=2304, mlp_ratio=2.5, **SANA
    ),
    "FLUX.1 dev": lambda: FluxTransformer2DModel(guidance_embeds=True),
    "FLUX.2 [klein] 4B": lambda: Flux2Transformer2DModel(
        num_layers=5, num_single_layers=20, num_attention_heads=24, joint_attention_dim=7680, guidance_embeds=False
    ),
}
"""Of the published sizes."""


def sizes() -> Iterator[dict[str, Any]]:
    """A row per published network: GB in 16 bits, and in each kind."""
    for name, make in NETWORKS.items():
        with torch.device("meta"):
            network = make().to(torch.bfloat16)
        in_kinds = {name: quantised_bytes(network, kind) for name, kind in KINDS.items()}
        counted = {FULL: weight_bytes([network]), **in_kinds}
        yield {"network": name} | {f"{kind}, GB": count / 1e9 for kind, count in counted.items()}


def available(device: torch.device) -> list[str]:
    """The kinds that a device has."""
    found = []
    for kind in KINDS:
        try:
            Quantization(kind).dtype("auto", device)
        except ConfigError as error:
            print(error, flush=True)
        else:
            found.append(kind)
    return found


def measure(device: torch.device, truth: Truth, frames: int, steps: int) -> Iterator[dict[str, Any]]:
    """A row per kind for one edit; full precision is first."""
    reference: np.ndarray | None = None
    full_seconds = full_bytes = 0.0
    for kind in (None, *available(device)):
        model = tokenflow.load_model(
            MODEL, device=str(device), dtype="auto" if device.type == "cuda" else "float32", quantization=kind
        )
        seconds, edited, source = _edit(model, truth, frames, steps)
        if reference is None:
            reference, full_seconds, full_bytes = edited, seconds, model.weight_bytes
        yield {
            "edit": " → ".join(each.start.words.object for each in (truth.clip, truth.target)),
            "weights": kind or FULL,
            "layers": 0 if kind is None else len(quantised_layers(model.network, KINDS[kind])),
            "MiB": model.weight_bytes / 2**20,
            "of full size": model.weight_bytes / full_bytes,
            "of full time": seconds / full_seconds,
            "PSNR to full, dB": None if kind is None else _psnr(edited, reference),
            "prompt seen": _seen(truth, source, edited),
        }


def _edit(model: Any, truth: Truth, frames: int, steps: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Seconds of inversion and edit, the edited frames, and the source's."""
    before, after = truth.prompts
    source = truth.frames[:frames]
    video = tokenflow.Video(source, rate=RATE)
    tokenflow.invert(video, model, before, steps=1)  # the first call of each kernel is slow
    begin = time.perf_counter()
    inverted = tokenflow.invert(video, model, before, steps=steps)
    edited = tokenflow.edit(inverted, after, steps=steps).frames
    return time.perf_counter() - begin, edited, source


def _psnr(images: np.ndarray, reference: np.ndarray) -> float | None:
    error = np.square(images / 255.0 - reference / 255.0).mean()
    return float(-10 * np.log10(error)) if error else None


def _seen(truth: Truth, source: np.ndarray, edited: np.ndarray) -> float:
    """The share of frames in which the classifier sees every word of the prompt."""
    words = WordsSeen(CLASSIFIER, *truth.prompts)
    for before, after in zip(source, edited, strict=True):
        words.add(before, after)
    return float(np.mean(words.over_time["words"]["edit"]))


def write_document(content: dict[str, Any]) -> None:
    """Write the figures below the heading of docs/quantization.md; what is above it is kept."""
    text = DOCUMENT.read_text(encoding="utf-8").partition(HEADING)[0]
    parts = [HEADING, "The networks that predict, counted by their shapes:", rows_table(content["sizes"])]
    for name, run in content["devices"].items():
        parts += [f"### {name}", f"{run['settings']}.", rows_table(run["rows"])]
    DOCUMENT.write_text(text + "\n\n".join(parts) + "\n", encoding="utf-8")


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    content = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {"devices": {}}
    content["sizes"] = list(sizes())
    rows = [row for edit in EDITS for row in measure(device, shipped(*edit), arguments.frames, arguments.steps)]
    print(rows_table(rows), flush=True)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    made_with = ", ".join(f"{each} {version(each)}" for each in ("torch", "torchao", "diffusers"))
    settings = f"mini-sd, {arguments.frames} frames, {arguments.steps} steps, Plug-and-Play; {made_with}"
    content["devices"][name] = {"settings": settings, "rows": rows}
    write_json(RESULTS, content)
    write_document(content)


if __name__ == "__main__":
    main()
