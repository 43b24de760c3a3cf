"""Stage: encodes scenes with the trained autoencoder and keeps latents, words and edges on disk.

A shard is one safetensors file of SHARD scenes: latents n c h w (not yet scaled), words n 6 (indices into KINDS),
edges n H·W/8 (Canny, one bit a pixel). Shard i holds the scenes of seed i, so that more can be made at any time;
what the present autoencoder made is kept. Captions are not stored: training draws a fresh one each time a scene is
seen.
"""

import argparse
import hashlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderDC, AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor, nn

from tools.mini_sd.autoencoder import load_autoencoder
from tools.mini_sd.networks import encode
from tools.mini_sd.scene import PICTURE, render, sample_scene
from tools.mini_sd.training import RUNS, choose_device, header, save_tensors
from tools.mini_sd.words import KINDS, Words

SHARD = 1024
BATCH = 32
CANNY_THRESHOLDS = 100, 200


@dataclass(frozen=True)
class EncodedScenes:
    """latents n c h w in unit variance; words n 6; edges n H·W/8, bits; scale, what latents were multiplied by."""

    latents: Tensor
    words: Tensor
    edges: Tensor
    scale: float

    def __len__(self) -> int:
        return len(self.latents)


def find_edges(picture: np.ndarray) -> np.ndarray:
    """H W, true on the Canny edges of a picture H W 3 in [0,1]."""
    return cv2.Canny(np.round(picture * 255).astype(np.uint8), *CANNY_THRESHOLDS) > 0


def unpack_edges(bits: Tensor) -> Tensor:
    """b H·W/8, bits, to b 3 H W in {0, 1}, as a ControlNet takes them."""
    edges = torch.from_numpy(np.unpackbits(bits.cpu().numpy(), axis=1)).float()
    return edges.view(-1, 1, PICTURE, PICTURE).expand(-1, 3, -1, -1).to(bits.device)


def words_of(indices: Tensor) -> Words:
    """The words that a row of `EncodedScenes.words` stands for."""
    pairs = zip(KINDS.items(), indices.tolist(), strict=True)
    return Words(**{kind: known[index] for (kind, known), index in pairs})


def checksum(autoencoder: nn.Module) -> str:
    """SHA-256 of the weights: latents of another autoencoder are of no use."""
    digest = hashlib.sha256()
    for value in autoencoder.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def encode_shard(autoencoder: AutoencoderKL | AutoencoderDC, seed: int, device: torch.device) -> dict[str, Tensor]:
    """The scenes of one seed."""
    rng = np.random.default_rng((1, seed))
    scenes = [sample_scene(rng) for _ in range(SHARD)]
    latents, edges = [], []
    for start in range(0, SHARD, BATCH):
        pictures = np.stack([render(scene).picture for scene in scenes[start : start + BATCH]])
        edges += [np.packbits(find_edges(picture)) for picture in pictures]
        batch = torch.from_numpy(pictures).permute(0, 3, 1, 2).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            latents.append(encode(autoencoder, batch).half().cpu())
    words = torch.tensor([scene.words.indices for scene in scenes], dtype=torch.uint8)
    return {"latents": torch.cat(latents), "words": words, "edges": torch.from_numpy(np.stack(edges))}


def load_scenes(folder: Path, device: torch.device | str = "cpu") -> EncodedScenes:
    """Every shard in a folder, latents on a device.

    The scale comes from the first shard alone, so that more shards do not change it.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"no encoded scenes in {folder}; run `python -m tools.mini_sd.latents` first")
    shards = [load_file(file) for file in files]
    parts = {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}
    scale = 1 / float(shards[0]["latents"].float().std())
    return EncodedScenes(parts["latents"].to(device).float() * scale, parts["words"], parts["edges"], scale)


def write_shards(autoencoder: AutoencoderKL | AutoencoderDC, folder: Path, count: int, device: torch.device) -> None:
    """Makes the shards of `count` scenes that are missing in a folder, or that another autoencoder made."""
    made_by = checksum(autoencoder)
    folder.mkdir(parents=True, exist_ok=True)
    shards = -(-count // SHARD)
    for seed in range(shards):
        file = folder / f"{seed:04d}.safetensors"
        if not (file.exists() and header(file).get("autoencoder") == made_by):
            print(f"shard {seed + 1} of {shards}: {SHARD} scenes", flush=True)
            save_tensors(encode_shard(autoencoder, seed, device), file, {"seed": str(seed), "autoencoder": made_by})


def main() -> None:
    """Makes the shards that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--scenes", type=int, default=40 * SHARD)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    autoencoder = load_autoencoder(arguments.runs, device)
    write_shards(autoencoder, arguments.runs / "latents", arguments.scenes, device)


if __name__ == "__main__":
    main()
