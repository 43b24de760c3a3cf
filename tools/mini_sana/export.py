"""Stage: writes what was trained as fp16 safetensors that load with nothing of ours installed.

MODELS/mini-sana                     SanaPipeline.from_pretrained
MODELS/mini-sana-controlnet-canny    SanaControlNetModel.from_pretrained
MODELS/mini-sana-sprint              SanaSprintPipeline.from_pretrained
"""

import argparse
from pathlib import Path

import torch

from tools.mini_sana import controlnet, diffusion, sprint
from tools.mini_sana.autoencoder import load_autoencoder
from tools.mini_sana.latents import FOLDER
from tools.mini_sd.export import CPU, MODELS, export_trained, load_in_single_precision
from tools.mini_sd.latents import load_scenes
from tools.mini_sd.training import RUNS


def export_sana(runs: Path, folder: Path) -> None:
    """The model of many steps."""
    _export(runs, diffusion.STAGE, folder, guided=False)


def export_sprint(runs: Path, folder: Path) -> None:
    """The model of one, two or four steps."""
    _export(runs, sprint.STAGE, folder, guided=True)


def _export(runs: Path, stage: str, folder: Path, guided: bool) -> None:
    autoencoder = load_autoencoder(runs, CPU)
    autoencoder.register_to_config(scaling_factor=load_scenes(runs / FOLDER).scale)
    pipeline = diffusion.assemble(*diffusion.load_sana(runs, stage, guided, CPU), autoencoder)
    pipeline.to(dtype=torch.float16).save_pretrained(folder)
    load_in_single_precision(folder / "text_encoder" / "config.json")


def export_controlnet(runs: Path, folder: Path) -> None:
    """As it is trained, in half precision."""
    controlnet.load_controlnet(runs, CPU).half().save_pretrained(folder)


EXPORTS = {
    diffusion.STAGE: (export_sana, "mini-sana"),
    controlnet.STAGE: (export_controlnet, "mini-sana-controlnet-canny"),
    sprint.STAGE: (export_sprint, "mini-sana-sprint"),
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
