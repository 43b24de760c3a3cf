"""Stage: trains CLIP to find the caption of a scene among those of a batch, and the scene of a caption.

The loss is CLIP's own (Radford et al., ICML 2021). Pictures are damaged as generated ones may be.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from tools.mini_clip.networks import MEAN, SIDE, SPREAD, build_clip
from tools.mini_sd.captions import sample_caption
from tools.mini_sd.classifier import damage
from tools.mini_sd.drawing import draw_ahead
from tools.mini_sd.gradients import Gradients
from tools.mini_sd.reconstruction import HELD_OUT
from tools.mini_sd.scene import render, sample_scene
from tools.mini_sd.training import Progress, Run, choose_device, load_averages, stage_arguments

STAGE = "clip"
CROPPED = 0.3  # share of the pictures of which only a part is shown


class Batches:
    """The pictures b 3 SIDE SIDE, normalised, and the captions of each step: a function of seed and step."""

    def __init__(self, seed: int, count: int) -> None:
        self.seed, self.count = seed, count

    def __call__(self, step: int) -> tuple[np.ndarray, list[str]]:
        """Scenes drawn for this step alone."""
        pictures, captions = draw(np.random.default_rng((11, self.seed, step)), self.count, damaged=True)
        return pictures.numpy(), captions


def draw(rng: np.random.Generator, count: int, damaged: bool) -> tuple[Tensor, list[str]]:
    """Pictures count 3 SIDE SIDE, normalised, and their captions."""
    pictures, captions = [], []
    for _ in range(count):
        scene = sample_scene(rng)
        picture = render(scene).picture
        if damaged:
            picture = cropped(damage(picture, rng), rng)
        pictures.append(torch.from_numpy(picture).permute(2, 0, 1))
        captions.append(sample_caption(scene.words, rng))
    return prepare(torch.stack(pictures)), captions


def cropped(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Most of a picture H W 3 now and then, as large as the whole: H W 3."""
    if rng.random() >= CROPPED:
        return picture
    side = picture.shape[0]
    part = int(side * rng.uniform(0.75, 1))
    top, left = rng.integers(side - part + 1, size=2)
    inner = torch.from_numpy(picture[top : top + part, left : left + part].copy()).permute(2, 0, 1)[None]
    whole = F.interpolate(inner, (side, side), mode="bilinear", align_corners=False)
    return whole[0].permute(1, 2, 0).numpy()


def prepare(pictures: Tensor) -> Tensor:
    """Pictures b 3 H W in [0,1] as the model sees them: b 3 SIDE SIDE."""
    small = F.interpolate(pictures, (SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False)
    mean, spread = (torch.tensor(values, device=pictures.device).view(1, 3, 1, 1) for values in (MEAN, SPREAD))
    return (small - mean) / spread


def tokenize(tokenizer: CLIPTokenizer, captions: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
    """Token indices b n and their mask b n."""
    tokens = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").to(device)
    return tokens.input_ids, tokens.attention_mask


def similarities(model: CLIPModel, pictures: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
    """Logits b b: each picture (row) with each caption."""
    return model(input_ids=tokens, attention_mask=mask, pixel_values=pictures).logits_per_image.float()


def load_clip(runs: Path, device: torch.device) -> tuple[CLIPModel, CLIPTokenizer]:
    """The averaged weights of the last checkpoint."""
    tokenizer = CLIPTokenizer.from_pretrained(runs / "tokenizer")
    model = build_clip(tokenizer)
    load_averages(runs / STAGE, {"clip": model})
    return model.eval().requires_grad_(False).to(device), tokenizer


@torch.no_grad()
def report(runs: Path, device: torch.device) -> None:
    """Prints how often the right one of 64 captions is the nearest, on scenes never trained on."""
    model, tokenizer = load_clip(runs, device)
    found = []
    for part in range(8):
        pictures, captions = draw(np.random.default_rng((HELD_OUT, part)), 64, damaged=False)
        logits = similarities(model, pictures.to(device), *tokenize(tokenizer, captions, device))
        found.append((logits.argmax(dim=1).cpu() == torch.arange(64)).float().mean())
    print(f"  the right one of 64 captions: {torch.stack(found).mean():.1%}", flush=True)


def main() -> None:
    """Trains until the last step."""
    parser = stage_arguments(__doc__, steps=4000, batch=128, rate=1.5e-3)
    parser.add_argument("--workers", type=int, default=0, help="processes that draw; with a GPU, nearly all cores")
    parser.add_argument("--report-every", type=int, default=500, help="steps between figures")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    torch.manual_seed(arguments.seed)
    tokenizer = CLIPTokenizer.from_pretrained(arguments.runs / "tokenizer")
    model = build_clip(tokenizer).to(device).train()
    run = Run.of(arguments, STAGE, {"clip": model})
    batches = Batches(arguments.seed, arguments.batch)
    drawn = draw_ahead(batches, range(run.step, run.steps), arguments.workers)
    progress, right = Progress(run.steps), torch.arange(arguments.batch, device=device)

    def loss_of(pictures: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            logits = similarities(model, pictures, tokens, mask)
        return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2

    gradients = Gradients(loss_of, run.parameters())
    for step in run.loop(arguments.save_minutes):
        pictures, captions = next(drawn)
        loss = gradients(torch.from_numpy(pictures), *tokenize(tokenizer, captions, device))
        run.descend()
        progress.report(step, loss=loss)
        if (step + 1) % arguments.report_every == 0:
            run.save()
            report(arguments.runs, device)


if __name__ == "__main__":
    main()
