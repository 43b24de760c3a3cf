"""Stage: encodes scenes with the trained autoencoder and keeps latents, words and edges on disk.

A shard is one safetensors file of SHARD scenes: latents n c h w (not yet scaled), words n 6 (indices into KINDS),
edges n H·W/8 (Canny, one bit a pixel). Shard i holds the scenes of seed i, so that more can be made at any time;
what the present autoencoder made is kept. Captions are not stored: training draws a fresh one each time a scene is
seen.
"""

import argparse
import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderDC, AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor, nn

from tools.mini_sd.autoencoder import load_autoencoder
from tools.mini_sd.drawing import draw_ahead
from tools.mini_sd.networks import encode
from tools.mini_sd.scene import PICTURE, Scene, render, sample_scene
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
    """H W, true on the Canny edges of a picture H W 3, in [0,1] or in 0..255."""
    return cv2.Canny(picture if picture.dtype == np.uint8 else as_bytes(picture), *CANNY_THRESHOLDS) > 0


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


@lru_cache(maxsize=1)
def scenes_of(seed: int) -> list[Scene]:
    """The scenes of one shard."""
    rng = np.random.default_rng((1, seed))
    return [sample_scene(rng) for _ in range(SHARD)]


def draw_part(part: int) -> tuple[np.ndarray, np.ndarray]:
    """BATCH scenes, counted through all shards: pictures b H W 3 in 0..255, and their edges b H·W/8, bits."""
    seed, start = divmod(part * BATCH, SHARD)
    pictures = [as_bytes(render(scene).picture) for scene in scenes_of(seed)[start : start + BATCH]]
    edges = [np.packbits(find_edges(picture)) for picture in pictures]
    return np.stack(pictures), np.stack(edges)


def as_bytes(picture: np.ndarray) -> np.ndarray:
    """A picture H W 3 in [0,1] in 0..255."""
    return np.round(picture * 255).astype(np.uint8)


@torch.no_grad()
def encode_pictures(autoencoder: AutoencoderKL | AutoencoderDC, pictures: np.ndarray, device: torch.device) -> Tensor:
    """Pictures b H W 3 in 0..255 to latents b c h w in half precision."""
    batch = torch.from_numpy(pictures).to(device).permute(0, 3, 1, 2).float() / 255
    with torch.autocast(device.type, torch.bfloat16):
        return encode(autoencoder, batch).half().cpu()


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


def write_shards(
    autoencoder: AutoencoderKL | AutoencoderDC, folder: Path, arguments: argparse.Namespace, device: torch.device
) -> None:
    """Makes the shards that are missing in a folder, or that another autoencoder made."""
    seeds = missing_shards(folder, -(-arguments.scenes // SHARD), checksum(autoencoder))
    parts = SHARD // BATCH
    drawn = draw_ahead(draw_part, (seed * parts + place for seed in seeds for place in range(parts)), arguments.workers)
    for seed in seeds:
        latents, edges = [], []
        for _ in range(parts):
            pictures, bits = next(drawn)
            latents.append(encode_pictures(autoencoder, pictures, device))
            edges.append(torch.from_numpy(bits))
        words = torch.tensor([scene.words.indices for scene in scenes_of(seed)], dtype=torch.uint8)
        shard = {"latents": torch.cat(latents), "words": words, "edges": torch.cat(edges)}
        write_shard(shard, folder, seed, checksum(autoencoder))


def missing_shards(folder: Path, count: int, made_by: str) -> list[int]:
    """The numbers below `count` of shards that are not there, or that another autoencoder made."""
    files = {seed: folder / f"{seed:04d}.safetensors" for seed in range(count)}
    return [s for s, file in files.items() if not file.exists() or header(file).get("autoencoder") != made_by]


def write_shard(shard: dict[str, Tensor], folder: Path, seed: int, made_by: str) -> None:
    """A file of tensors, which says which autoencoder made them."""
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(shard, folder / f"{seed:04d}.safetensors", {"seed": str(seed), "autoencoder": made_by})
    print(f"shard {seed} is written", flush=True)


def shard_arguments(description: str | None) -> argparse.ArgumentParser:
    """The options of a stage that encodes."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw; with a GPU, nearly all cores")
    parser.add_argument("--device", default="auto")
    return parser


def scene_arguments(description: str | None) -> argparse.Namespace:
    """Those of a stage that encodes scenes."""
    parser = shard_arguments(description)
    parser.add_argument("--scenes", type=int, default=40 * SHARD)
    return parser.parse_args()


def main() -> None:
    """Makes the shards that are missing."""
    arguments = scene_arguments(__doc__)
    device = choose_device(arguments.device)
    write_shards(load_autoencoder(arguments.runs, device), arguments.runs / "latents", arguments, device)


if __name__ == "__main__":
    main()
