"""Autoencoder and UNet of Stable Diffusion's size with channels last in memory, beside channels first.

    python -m benchmarks.channels_last [--device DEVICE] [--side PIXELS] [--rounds N] [--calls encode decode UNet]
        [--dtypes float32 bfloat16]

Random weights, one frame. Both layouts take turns, and the fastest round of each counts; on a CPU in processor time of
one thread. `bits` says whether both gave
the same. Rows that are not measured again are kept in benchmarks/results/channels_last.json.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from benchmarks.output import rows_table, write_json
from benchmarks.random_models import SD15, random_autoencoder
from tokenflow.models.placement import choose_device
from tokenflow.report import versions

RESULTS = Path("benchmarks/results/channels_last.json")
LAYOUTS = {"first": torch.contiguous_format, "last": torch.channels_last}


def measure(
    device: torch.device, dtype: torch.dtype, side: int, rounds: int, names: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """A row per network call."""
    vae = random_autoencoder(SD15).to(device, dtype).eval()
    unet = UNet2DConditionModel(**SD15.unet).to(device, dtype).eval() if "UNet" in names else None
    noise = torch.randn(1, 4, side // 8, side // 8, device=device, dtype=dtype)
    image = torch.randn(1, 3, side, side, device=device, dtype=dtype)
    text = torch.randn(1, 77, 768, device=device, dtype=dtype)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    calls: dict[str, tuple[Any, Callable[[], Any]]] = {
        "encode": (vae, lambda: vae.encode(image).latent_dist.mean),
        "decode": (vae, lambda: vae.decode(noise).sample),
        "UNet": (unet, lambda: unet(noise, 500, encoder_hidden_states=text).sample),
    }
    for name in names:
        network, call = calls[name]
        seconds: dict[str, list[float]] = {layout: [] for layout in LAYOUTS}
        outputs = {}
        for _ in range(rounds + 1):  # the first one warms up
            for layout, format in LAYOUTS.items():
                network.to(memory_format=format)
                begin = clock()
                outputs[layout] = call()
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                seconds[layout].append(clock() - begin)
        first, last = (min(each[1:]) for each in seconds.values())
        difference = (outputs["first"].float() - outputs["last"].float()).abs().max()
        yield {
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
            "call": name,
            "dtype": str(dtype).removeprefix("torch."),
            "side": side,
            "first, s": first,
            "last, s": last,
            "ratio": last / first,
            "bits": "same" if torch.equal(outputs["first"], outputs["last"]) else "other",
            "largest difference": float(difference / outputs["first"].float().abs().max()),
        }


@torch.no_grad()
def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--calls", nargs="+", default=["encode", "decode", "UNet"])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    rows = []
    for name in arguments.dtypes:
        rows += measure(device, getattr(torch, name), arguments.side, arguments.rounds, arguments.calls)
        print(rows_table(rows), flush=True)
    before = json.loads(RESULTS.read_text(encoding="utf-8"))["rows"] if RESULTS.is_file() else []
    measured = {_key(row) for row in rows}
    kept = [row for row in before if _key(row) not in measured]
    write_json(RESULTS, {"rows": kept + rows, "versions": versions()})


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["device"], row["call"], row["dtype"], row["side"]


if __name__ == "__main__":
    main()
