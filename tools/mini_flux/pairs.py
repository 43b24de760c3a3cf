"""Stage: encodes pairs of scenes, of which the second is the first in other words, and keeps them on disk.

A shard is one safetensors file of SHARD pairs: before and after n c h w (not yet scaled), words_before and words_after
n 6 (indices into KINDS). Pairs of objects that `held_out` names are in none.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from tools.mini_flux.instructions import sample_change
from tools.mini_sd.autoencoder import load_autoencoder
from tools.mini_sd.drawing import draw_ahead
from tools.mini_sd.latents import as_bytes, checksum, encode_pictures, missing_shards, shard_arguments, write_shard
from tools.mini_sd.scene import Scene, render, sample_scene
from tools.mini_sd.training import choose_device
from tools.mini_sd.words import OBJECTS, Words, sample_words

SHARD = 512
PART = 16  # pairs that are drawn and encoded at once
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


@lru_cache(maxsize=1)
def pairs_of(seed: int) -> list[tuple[Scene, Scene]]:
    """The pairs of one shard."""
    rng = np.random.default_rng((5, seed))
    return [sample_pair(rng) for _ in range(SHARD)]


def draw_part(part: int) -> np.ndarray:
    """PART pairs, counted through all shards: pictures 2 b H W 3 in 0..255."""
    seed, start = divmod(part * PART, SHARD)
    pairs = pairs_of(seed)[start : start + PART]
    return np.stack([[as_bytes(render(scene).picture) for scene in scenes] for scenes in zip(*pairs, strict=True)])


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
    parser = shard_arguments(__doc__)
    parser.add_argument("--pairs", type=int, default=24 * SHARD)
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    autoencoder = load_autoencoder(arguments.runs, device)
    made_by, folder, parts = checksum(autoencoder), arguments.runs / "pairs", SHARD // PART
    seeds = missing_shards(folder, -(-arguments.pairs // SHARD), made_by)
    drawn = draw_ahead(draw_part, (seed * parts + place for seed in seeds for place in range(parts)), arguments.workers)
    for seed in seeds:
        encoded = [[encode_pictures(autoencoder, side, device) for side in next(drawn)] for _ in range(parts)]
        shard = {}
        for name, latents, scenes in zip(
            ("before", "after"), zip(*encoded, strict=True), zip(*pairs_of(seed), strict=True), strict=True
        ):
            shard[name] = torch.cat(latents)
            shard[f"words_{name}"] = torch.tensor([scene.words.indices for scene in scenes], dtype=torch.uint8)
        write_shard(shard, folder, seed, made_by)


if __name__ == "__main__":
    main()
