"""Stage: writes the trained CLIP as fp16 safetensors, in the layout of transformers."""

import argparse
from pathlib import Path

import torch
from transformers import CLIPProcessor

from tools.mini_clip.contrast import load_clip
from tools.mini_clip.networks import build_processor
from tools.mini_sd.training import RUNS

MODEL = Path("data/models/mini-clip")


def main() -> None:
    """Writes model, tokenizer and processor."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--model", type=Path, default=MODEL)
    arguments = parser.parse_args()
    model, tokenizer = load_clip(arguments.runs, torch.device("cpu"))
    model.half().save_pretrained(arguments.model)
    CLIPProcessor(build_processor(), tokenizer).save_pretrained(arguments.model)


if __name__ == "__main__":
    main()
