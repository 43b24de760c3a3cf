"""What both stages cost at the size of Stable Diffusion 1.5: its networks, 512 × 512 pixels, half precision on a GPU.

The weights are random, since no figure of time or memory depends on them; so there are none of the picture. The clip is
a drawn one made larger. Stage 2 is measured as `make bench` measures it, method beside method in one process, in an
order that alternates; stage 1 once each. `gpu_mb` is the most that torch had allocated while a method sampled, the
model included. The first table is of whole edits with settings for small cards, the most memory of each stage.
"""

import argparse
import gc
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

import tokenflow
from benchmarks import inversion
from benchmarks.cells import DIFFUSION, RATE
from benchmarks.sampling import Inverted, table
from benchmarks.speed import FEW_STEPS, METHODS, once_each, times
from benchmarks.truth import Truth, shipped
from tokenflow.config import Config
from tokenflow.models.loading import load_model
from tokenflow.models.model import Model
from tokenflow.report import versions
from tokenflow.video import VideoWriter

SIDE, WIDTHS, VAE_WIDTHS = 512, (320, 640, 1280, 1280), (128, 256, 512, 512)
INTERVAL = 3
"""Frames to a keyframe where memory is measured: of 24 frames a whole window's eight keyframes, as in longer clips."""

SAVING: dict[str, dict[str, Any]] = {
    "batch_size=2": {"inversion.batch_size": 2, "edit.batch_size": 2},
    "keyframe_window=4": {"edit.keyframe_window": 4},
    "model.offload": {"model.offload": True},
}
SMALL_CARDS: dict[str, dict[str, Any]] = {
    "as it is": {},
    **SAVING,
    "all of these": {key: value for settings in SAVING.values() for key, value in settings.items()},
}
STAGES = "preprocess", "edit", "decode"


@dataclass(frozen=True)
class Enlarged(Truth):
    """A drawn clip made larger; its perfect edit is not.

    Attributes:
        side: pixels along each side.
    """

    side: int

    @cached_property
    def frames(self) -> np.ndarray:
        """The source, f H W 3 uint8."""
        size = self.side, self.side
        return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC) for frame in super().frames])


def save_random_model(folder: Path, like: Path, side: int, widths: Sequence[int]) -> None:
    """Networks of Stable Diffusion 1.5's form, with random weights in half precision, in diffusers' layout.

    Args:
        folder: to write to.
        like: a model in that layout, whose tokenizer and scheduler are taken; words are of no account here.
        side: pixels along each side of the pictures it is for.
        widths: channels of the UNet's levels.
    """
    torch.manual_seed(0)
    words = CLIPTokenizer.from_pretrained(like, subfolder="tokenizer", model_max_length=77)
    text = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        eos_token_id=words.eos_token_id,
        bos_token_id=words.bos_token_id,
        pad_token_id=words.pad_token_id,
    )
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        unet = UNet2DConditionModel(
            sample_size=side // 8, cross_attention_dim=768, attention_head_dim=8, block_out_channels=tuple(widths)
        )
        vae = AutoencoderKL(
            block_out_channels=VAE_WIDTHS,
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * len(VAE_WIDTHS),
            up_block_types=("UpDecoderBlock2D",) * len(VAE_WIDTHS),
            latent_channels=4,
            sample_size=side,
        )
        text_encoder = CLIPTextModel(text)
    pipeline = StableDiffusionPipeline(
        vae=vae.half(),
        text_encoder=text_encoder.half(),
        tokenizer=words,
        unet=unet.half(),
        scheduler=DDIMScheduler.from_pretrained(like, subfolder="scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)


def stage_1(model: Model, truth: Truth) -> list[dict[str, object]]:
    """A row an inversion with its reconstruction: calls a frame, seconds a frame, and time to that of the yardstick."""
    names = [inversion.YARDSTICK, "25 steps, ours", "8 steps, ours"]
    inversion.round_trip(model, truth, *inversion.METHODS[names[-1]])  # warms up
    trips = {name: inversion.round_trip(model, truth, *inversion.METHODS[name]) for name in names}
    return [
        {
            "inversion": name,
            "calls_a_frame": trip["calls_a_frame"],
            "seconds_a_frame": trip["seconds_a_frame"],
            "time_to_50_plain_steps": trip["seconds_a_frame"] / trips[inversion.YARDSTICK]["seconds_a_frame"],
        }
        for name, trip in trips.items()
    ]


def stage_2(model: Model, truth: Truth, rounds: int) -> list[dict[str, object]]:
    """A row a method of editing; the run that counts its network calls warms it up."""
    with tempfile.TemporaryDirectory() as folder:
        clip = Inverted(model, truth, Path(folder))
        calls = {name: clip.sample_counted(method)[1] for name, method in METHODS.items()}
        figures = [once_each(clip, reverse=count % 2 == 1) for count in range(rounds)]
    return [
        {
            "method": name,
            "network_calls": calls[name],
            **times(name, figures, len(truth.frames)),
            "gpu_mb": max(each.get("stage_peak_gpu_memory_mb", {}).get(name, 0) for each in figures) or None,
        }
        for name in METHODS
    ]


def memory(model: Path, truth: Enlarged) -> list[dict[str, object]]:
    """A row a choice of settings: the most memory on the GPU (MiB) of each stage of a whole edit."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        with VideoWriter(clip, width=truth.side, height=truth.side, rate=RATE) as video:
            for frame in truth.frames:
                video.write(frame)
        for name, settings in SMALL_CARDS.items():
            config = _config(clip, model, truth, Path(folder) / str(len(rows)), settings)
            gc.collect()  # the model before
            report = tokenflow.edit(config, progress=False).report
            on_gpu = report.get("stage_peak_gpu_memory_mb", {})
            rows.append({"settings": name, **{f"{stage}_gpu_mb": on_gpu.get(stage) for stage in STAGES}})
    return rows


def _config(clip: Path, model: Path, truth: Truth, folder: Path, settings: dict[str, Any]) -> Config:
    source, target = truth.prompts
    sections: dict[str, dict[str, Any]] = {
        "clip": {"path": clip, "prompt": source},
        "model": {"path": str(model)},
        "inversion": {"steps": FEW_STEPS, "warn_below_psnr": 0},
        "edit": {"prompt": target, "steps": FEW_STEPS, "keyframe_interval": INTERVAL},
        "output": {"dir": folder / "out"},
        "trajectories": {"dir": folder / "trajectories"},
    }
    for key, value in settings.items():
        section, name = key.split(".")
        sections[section][name] = value
    return Config.model_validate(sections)


def main() -> None:
    """Measures, prints three tables, and writes them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--like", type=Path, default=DIFFUSION, help="whose tokenizer and scheduler are taken")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--widths", type=int, nargs=4, default=WIDTHS, help="of the UNet; small ones try this out")
    parser.add_argument("--side", type=int, default=SIDE, help="pixels; few try this out")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/full_size.json"))
    arguments = parser.parse_args()
    clip = shipped("dog_walk", "tiger")
    truth = Enlarged(clip.clip, clip.target, arguments.side)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder)
        save_random_model(model, arguments.like, arguments.side, arguments.widths)
        tables = {"memory": memory(model, truth)}
        model = load_model(str(model))
        tables |= {"stage_1": stage_1(model, truth), "stage_2": stage_2(model, truth, arguments.rounds)}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(
        json.dumps(
            {"device": device, "side": arguments.side, "widths": arguments.widths, "versions": versions(), **tables},
            indent=1,
        )
        + "\n"
    )
    print(f"{device}\n", *map(table, tables.values()), sep="\n\n")


if __name__ == "__main__":
    main()
