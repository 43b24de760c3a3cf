"""Stage: writes what was trained as fp16 safetensors that load with nothing of ours installed.

MODELS/mini-flux             FluxPipeline.from_pretrained; told the guidance scale, as FLUX.1 [dev] is
MODELS/mini-flux-schnell     FluxPipeline.from_pretrained; four steps
MODELS/mini-flux2-klein      Flux2KleinPipeline.from_pretrained; a base model, which takes references
"""

import argparse
from pathlib import Path

import torch

from tools.mini_flux import diffusion, few_step, guidance, klein
from tools.mini_flux.autoencoder import as_flux2
from tools.mini_sd.autoencoder import load_autoencoder
from tools.mini_sd.export import CPU, MODELS, export_trained, load_in_single_precision
from tools.mini_sd.latents import load_scenes
from tools.mini_sd.training import RUNS


def export_flux(runs: Path, folder: Path) -> None:
    """The model that is told the guidance scale."""
    _export(runs, guidance.STAGE, folder, guided=True)


def export_schnell(runs: Path, folder: Path) -> None:
    """The model of four steps."""
    _export(runs, few_step.STAGE, folder, guided=False)


def _export(runs: Path, stage: str, folder: Path, guided: bool) -> None:
    autoencoder = load_autoencoder(runs, CPU)
    autoencoder.register_to_config(scaling_factor=load_scenes(runs / "latents").scale)
    parts = diffusion.load_flux(runs, stage, guided, CPU)
    pipeline = diffusion.assemble(*parts, autoencoder, dynamic=guided)
    pipeline.to(dtype=torch.float16).save_pretrained(folder)
    for encoder in ("text_encoder", "text_encoder_2"):
        load_in_single_precision(folder / encoder / "config.json")


def export_klein(runs: Path, folder: Path) -> None:
    """The model of captions and instructions."""
    autoencoder = as_flux2(load_autoencoder(runs, CPU), load_scenes(runs / "latents"))
    pipeline = klein.assemble(*klein.load_klein(runs, klein.STAGE, CPU), autoencoder)
    pipeline.to(dtype=torch.float16).save_pretrained(folder)
    load_in_single_precision(folder / "text_encoder" / "config.json")


EXPORTS = {
    guidance.STAGE: (export_flux, "mini-flux"),
    few_step.STAGE: (export_schnell, "mini-flux-schnell"),
    klein.STAGE: (export_klein, "mini-flux2-klein"),
}


def main() -> None:
    """Writes what is there; says what is not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--models", type=Path, default=MODELS)
    arguments = parser.parse_args()
    export_trained(EXPORTS, arguments.runs, arguments.models)


if __name__ == "__main__":
    main()
