"""Stage: encodes pairs of scenes, of which the second is the first in other words, and keeps them on disk.

A shard is one safetensors file of SHARD pairs: before and after n c h w (not yet scaled), words_before and words_after
n 6 (indices into KINDS). Pairs of objects that `held_out` names are in none.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor

from tools.mini_flux.instructions import sample_change
from tools.mini_sd.autoencoder import load_autoencoder
from tools.mini_sd.latents import BATCH, checksum
from tools.mini_sd.networks import encode
from tools.mini_sd.scene import Scene, render, sample_scene
from tools.mini_sd.training import RUNS, choose_device, header, save_tensors
from tools.mini_sd.words import OBJECTS, Words, sample_words

SHARD = 512
HELD_OUT_SHARE = 12  # one pair of objects in so many is kept for evaluation


@dataclass(frozen=True)
class EncodedPairs:
    """before and after n c h w; words_before and words_after n 6."""

    before: Tensor
    after: Tensor
    words_before: Tensor
    words_after: Tensor

    def __len__(self) -> int:
        return len(self.before)


def held_out(before: Words, after: Words) -> bool:
    """Whether a change of this object into that one is kept for evaluation."""
    place = 7 * OBJECTS.index(before.object) + OBJECTS.index(after.object)
    return before.object != after.object and place % HELD_OUT_SHARE == 0


def sample_pair(rng: np.random.Generator) -> tuple[Scene, Scene]:
    """A scene, and the same in other words."""
    before = sample_scene(rng)
    while True:
        words = sample_change(before.words, sample_words(rng), rng)
        if words != before.words and not held_out(before.words, words):
            return before, before.with_words(**vars(words))


@torch.no_grad()
def encode_shard(autoencoder: AutoencoderKL, seed: int, device: torch.device) -> dict[str, Tensor]:
    """The pairs of one seed."""
    rng = np.random.default_rng((5, seed))
    pairs = [sample_pair(rng) for _ in range(SHARD)]
    shard = {}
    for place, name in enumerate(("before", "after")):
        scenes = [pair[place] for pair in pairs]
        latents = []
        for start in range(0, SHARD, BATCH):
            pictures = np.stack([render(scene).picture for scene in scenes[start : start + BATCH]])
            batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(device)
            with torch.autocast(device.type, torch.bfloat16):
                latents.append(encode(autoencoder, batch).half().cpu())
        shard[name] = torch.cat(latents)
        shard[f"words_{name}"] = torch.tensor([scene.words.indices for scene in scenes], dtype=torch.uint8)
    return shard


def load_pairs(folder: Path, scale: float, device: torch.device) -> EncodedPairs:
    """Every shard in a folder, latents on a device and multiplied by `scale`."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"no encoded pairs in {folder}; run `python -m tools.mini_flux.pairs` first")
    shards = [load_file(file) for file in files]
    parts = {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}
    before, after = (parts[name].to(device).float() * scale for name in ("before", "after"))
    return EncodedPairs(before, after, parts["words_before"], parts["words_after"])


def main() -> None:
    """Makes the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--pairs", type=int, default=24 * SHARD)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    autoencoder = load_autoencoder(arguments.runs, device)
    made_by = checksum(autoencoder)
    folder = arguments.runs / "pairs"
    folder.mkdir(parents=True, exist_ok=True)
    shards = -(-arguments.pairs // SHARD)
    for seed in range(shards):
        file = folder / f"{seed:04d}.safetensors"
        if not (file.exists() and header(file).get("autoencoder") == made_by):
            print(f"shard {seed + 1} of {shards}: {SHARD} pairs", flush=True)
            save_tensors(encode_shard(autoencoder, seed, device), file, {"seed": str(seed), "autoencoder": made_by})


if __name__ == "__main__":
    main()
