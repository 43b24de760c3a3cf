"""What Stable Diffusion 1.5 and XL keep in memory at full size, by the shapes of their tensors: no GPU is needed.

The networks have their published sizes and fake weights, which take no memory, in half precision as on a GPU. Every
tensor that is alive is counted. What a GPU's libraries add for themselves is not.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from benchmarks.random_models import SD15, SDXL, Family
from tokenflow.config import Edit, Inversion, PnP
from tokenflow.diffusion.batches import image_batches
from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.guidance import Guidance
from tokenflow.models.blank import making
from tokenflow.models.stable_diffusion import StableDiffusion
from tokenflow.modes.pnp import PnPMode
from tokenflow.modes.source import InvertedClip
from tokenflow.propagation.denoiser import EditDenoiser
from tokenflow.propagation.extended_attention import extended_sites
from tokenflow.propagation.tokenflow import Propagation, TokenFlow
from tokenflow.report.live_bytes import LiveBytes
from tokenflow.store.memory import MemoryInversion
from tokenflow.video import Video, fit_area

LIKE = Path("data/models/mini-sd")
"""Whose tokenizer and scheduler are taken."""

GIB = 2**30
STEP = 2
WINDOWS = 2
"""Of keyframes, all frames of the clip: enough that a window attends to the one before it as well."""

DEFAULTS = Edit(prompt="a tiger")
WINDOW_SIZES = (DEFAULTS.keyframe_window, 4)
TEXT_ENCODERS = {SD15.name: 123_000_000, SDXL.name: 123_000_000 + 695_000_000}
"""Their parameters."""


@dataclass(frozen=True)
class PeakMemory:
    """Bytes, beside those of the weights.

    Attributes:
        weights: of all networks.
        keyframes: of the pass of a window of keyframes that attends to others as well, in a step of Plug-and-Play that
            gathers features.
        decoding: of as many frames as go through the autoencoder at once.
    """

    weights: int
    keyframes: int
    decoding: int

    @property
    def total(self) -> int:
        """Of an edit with nothing offloaded."""
        return self.weights + max(self.keyframes, self.decoding)


class FakeModel:
    """A model at its published size whose tensors have shapes and no memory. Its text encoders are left out.

    Args:
        family: its sizes.
    """

    def __init__(self, family: Family) -> None:
        self._family = family
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        scheduler = DDIMScheduler.from_pretrained(LIKE, subfolder="scheduler")
        tokenizer = CLIPTokenizer.from_pretrained(LIKE, subfolder="tokenizer")
        with self._fake:
            with making(torch.float16):
                self._unet = UNet2DConditionModel(sample_size=family.side // 8, **family.unet)
            # XL's autoencoder overflows in half precision.
            with making(torch.float32 if family.is_xl else torch.float16):
                self._autoencoder = _autoencoder(family)
            text_encoder = CLIPTextModel(
                CLIPTextConfig(hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
            )
        pipeline = SimpleNamespace(
            unet=self._unet,
            vae=self._autoencoder,
            tokenizer=tokenizer,
            text_encoder=text_encoder,
            scheduler=scheduler,
            config={},
            maybe_convert_prompt=lambda prompt, tokenizer: prompt,
        )
        self._model = StableDiffusion(pipeline, device=torch.device("cpu"), fingerprint=lambda: "")

    def peak_memory(self, width: int, height: int, window: int = DEFAULTS.keyframe_window) -> PeakMemory:
        """With default settings but for the window of keyframes, at this working size in pixels."""
        networks = (self._unet, self._autoencoder)
        weights = sum(each.nbytes for network in networks for each in network.parameters())
        return PeakMemory(
            weights + 2 * TEXT_ENCODERS[self._family.name],
            self._keyframe_bytes(width, height, window),
            self._decoding_bytes(width, height),
        )

    def _keyframe_bytes(self, width: int, height: int, window: int) -> int:
        model, frames = self._model, WINDOWS * window
        source = self._blank_clip(width, height, frames)
        guidance = Guidance(self._conditioning(), self._conditioning(), DEFAULTS.guidance_scale)
        options = Propagation(
            shots=(range(frames),),
            draw_keyframes=lambda count, _: list(range(count)),
            window=window,
            extended=extended_sites("coarse", model.sites),
            is_edit_propagated=lambda step: False,
            propagate_guidance=True,
        )
        denoiser = EditDenoiser(model, PnPMode(source, PnP()), guidance)
        predict = TokenFlow(denoiser, DEFAULTS.batch_size, lambda *_: None, options)
        latents = torch.zeros(frames, 4, height // 8, width // 8)
        step = model.schedule.steps(Inversion().steps, tokens=1)[STEP]
        with self._fake, LiveBytes() as counted:
            for _ in predict(latents, step):
                pass
        return counted.peak

    def _decoding_bytes(self, width: int, height: int) -> int:
        network = self._autoencoder
        count = len(next(image_batches(DEFAULTS.batch_size, DEFAULTS.batch_size, (width, height))))
        latents = torch.zeros(count, 4, height // 8, width // 8, dtype=network.dtype)
        with self._fake, LiveBytes() as counted, torch.no_grad():
            network.decode(latents)
        return counted.peak

    def _blank_clip(self, width: int, height: int, count: int) -> InvertedClip:
        inversion, steps = MemoryInversion(), Inversion().steps
        frames = np.zeros((count, height, width, 3), np.uint8)
        inversion.write_frames((frame, Fraction(index), Fraction(1)) for index, frame in enumerate(frames))
        schedule = self._model.schedule
        for level in (schedule.clean, *(step.at for step in schedule.steps(steps, tokens=1))):
            inversion.write_latents(level, [torch.zeros(count, 4, height // 8, width // 8).half()])
        inversion.finish()
        video = Video(frames, rate=24)
        return InvertedClip(self._model, inversion, self._conditioning(), "a dog", video, "fit", steps)

    def _conditioning(self) -> Conditioning:
        added = {"text_embeds": (1, 1280), "time_ids": (1, 6)} if self._family.is_xl else {}
        tokens = torch.zeros(1, 77, self._family.unet["cross_attention_dim"], dtype=torch.float16)
        return Conditioning(tokens, {name: torch.zeros(shape, dtype=torch.float16) for name, shape in added.items()})


def working_sizes(family: Family) -> tuple[tuple[int, int], tuple[int, int]]:
    """The default working sizes of square and 16:9 clips."""
    return fit_area(1080, 1080, family.side, 64), fit_area(1920, 1080, family.side, 64)


def _autoencoder(family: Family) -> AutoencoderKL:
    widths = family.vae_widths
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=2,
        latent_channels=4,
    )


def main() -> None:
    """Print a table."""
    print("| | window | weights | pass | decoding | together |\n|---|---|---|---|---|---|")
    for family in (SD15, SDXL):
        model = FakeModel(family)
        for width, height in working_sizes(family):
            for window in WINDOW_SIZES:
                peak = model.peak_memory(width, height, window)
                cells = (peak.weights, peak.keyframes, peak.decoding, peak.total)
                row = " | ".join(f"{each / GIB:.1f} GiB" for each in cells)
                print(f"| {family.name}, {width}×{height} | {window} | {row} |", flush=True)


if __name__ == "__main__":
    main()
