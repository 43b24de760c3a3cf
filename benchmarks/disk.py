"""What ten seconds of video take on disk, inverted with Stable Diffusion 1.5: counted, and written and measured.

    python -m benchmarks.disk

What is written is short and scaled to ten seconds: real frames at 512×512, noise in place of latents, and the flow of
those frames, by the code that stores inversions. No network runs, since its weights decide no sizes.
"""

import tempfile
from fractions import Fraction
from pathlib import Path

import torch

from tokenflow.config import Edit
from tokenflow.correspondence.flow import FlowCorrespondence
from tokenflow.diffusion.levels import Level
from tokenflow.pipeline.disk_space import flow_bytes, inversion_bytes
from tokenflow.propagation.keyframes import draw_keyframes, frame_pairs
from tokenflow.report.units import format_bytes
from tokenflow.store.inversions import StoredInversion
from tokenflow.store.kept_pairs import SUFFIX
from tokenflow.video import Video, resize

CLIP = Path(__file__).parents[1] / "data" / "clips" / "dog_walk.mp4"
SIDE, LATENT, CHANNELS = 512, 64, 4
FRAMES, SHORT, STEPS, INTERVAL = 240, 8, 50, 4
"""Ten seconds at 24 per second, and as many frames as are written."""


def pairs_of(frames: int) -> int:
    """Between how many pairs of frames fields are found in all steps of an edit."""
    every = range(frames)
    return len(
        {pair for step in range(STEPS) for pair in frame_pairs(every, draw_keyframes(frames, INTERVAL, 0, step))}
    )


def measured() -> tuple[float, float]:
    """Bytes of an inversion and of its flow, of a short clip, scaled."""
    images = [resize(each.image, SIDE, SIDE) for each in list(Video.read(CLIP))[:SHORT]]
    edit = Edit(prompt="a tiger", steps=STEPS)
    with tempfile.TemporaryDirectory() as folder:
        stored = StoredInversion(Path(folder) / "clip", {"prompt": "a dog"})
        stored.write_frames((image, Fraction(index, 24), Fraction(1, 24)) for index, image in enumerate(images))
        for number in range(STEPS + 1):
            share = number / STEPS
            dtype = torch.float32 if number < 2 else torch.float16
            latents = torch.randn(SHORT, CHANNELS, LATENT, LATENT).to(dtype)
            stored.write_latents(Level((1 - share**2) ** 0.5, share, float(number)), [latents])
        stored.finish()
        size = sum(path.stat().st_size for path in stored.folder.iterdir())
        with FlowCorrespondence(stored.frames(), LATENT, LATENT, keep=stored.kept_pairs) as flow:
            for step in range(edit.steps):
                for pair in frame_pairs(range(SHORT), draw_keyframes(SHORT, INTERVAL, edit.seed, step)):
                    flow.prepare(*pair)
        kept = {path.stem: path.stat().st_size for path in stored.folder.glob(f"*{SUFFIX}")}
    steps = kept["flow_steps"] / (SHORT - 1) * (FRAMES - 1)
    fields = kept["flow_fields"] / pairs_of(SHORT) * pairs_of(FRAMES)
    return size / SHORT * FRAMES, steps + fields


def main() -> None:
    """Print a table."""
    edit = Edit(prompt="a tiger", steps=STEPS)
    counted = inversion_bytes(FRAMES, (SIDE, SIDE), CHANNELS * LATENT**2, STEPS + 1)
    flow = flow_bytes(edit, FRAMES, (), (SIDE, SIDE), SIDE // LATENT)
    size, kept = measured()
    print("| | counted | written and scaled |\n|---|---|---|")
    print(f"| frames and latents | {format_bytes(counted)} | {format_bytes(size)} |")
    print(f"| flow that edits leave | {format_bytes(flow)} | {format_bytes(kept)} |")
    frames = FRAMES * 3 * SIDE**2
    print(f"\nFrames alone take {format_bytes(frames)}; together {format_bytes((counted + flow) / FRAMES)} per frame.")


if __name__ == "__main__":
    main()
