"""What the networks of Stable Diffusion 1.5 and XL keep in memory at full size, by the shapes of their tensors."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import CLIPTokenizer

from benchmarks.random_models import SD15, SDXL, Family
from tests.live_bytes import LiveBytes
from tokenflow.config import PnP
from tokenflow.diffusion.batches import image_batches
from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.guidance import Guidance
from tokenflow.models.stable_diffusion import StableDiffusion
from tokenflow.modes.pnp import PnPMode
from tokenflow.modes.source import InvertedClip
from tokenflow.propagation.denoiser import EditDenoiser
from tokenflow.propagation.extended_attention import extended_sites
from tokenflow.propagation.tokenflow import Propagation, TokenFlow
from tokenflow.store.memory import MemoryInversion
from tokenflow.video import Video, fit_area

LIKE = Path(__file__).parents[2] / "data" / "models" / "mini-sd"
GIB = 2**30
TEXT_ENCODERS = {SD15.name: 123_000_000, SDXL.name: 123_000_000 + 695_000_000}
"""Their parameters."""

FRAMES, WINDOW, BATCH = 24, 8, 8

pytestmark = pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")


@pytest.fixture(scope="module", params=[SD15, SDXL], ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param


@pytest.fixture(scope="module")
def fake() -> FakeTensorMode:
    return FakeTensorMode(allow_non_fake_inputs=True)


@pytest.fixture(scope="module")
def model(family: Family, fake: FakeTensorMode) -> StableDiffusion:
    """The networks at their published sizes, in half precision as on a GPU; the text encoders are left out."""
    scheduler = DDIMScheduler.from_pretrained(LIKE, subfolder="scheduler")
    parts: dict[str, Any] = {"scheduler": scheduler, "tokenizer": CLIPTokenizer.from_pretrained(LIKE / "tokenizer")}
    with fake:
        with default_dtype(torch.float16):
            parts["unet"] = UNet2DConditionModel(sample_size=family.side // 8, **family.unet)
        with default_dtype(torch.float32 if family.is_xl else torch.float16):  # XL's overflows in half precision
            parts["vae"] = autoencoder(family)
        parts["text_encoder"] = torch.nn.Linear(1, 1)
    pipeline = SimpleNamespace(**parts, config={})
    return StableDiffusion(pipeline, device=torch.device("cpu"), fingerprint=lambda: "")


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def autoencoder(family: Family) -> AutoencoderKL:
    widths = family.vae_widths
    return AutoencoderKL(
        block_out_channels=widths,
        down_block_types=("DownEncoderBlock2D",) * len(widths),
        up_block_types=("UpDecoderBlock2D",) * len(widths),
        layers_per_block=2,
        latent_channels=4,
    )


def conditioning(family: Family) -> Conditioning:
    added = {"text_embeds": torch.zeros(1, 1280), "time_ids": torch.zeros(1, 6)} if family.is_xl else {}
    halves = {name: each.half() for name, each in added.items()}
    return Conditioning(torch.zeros(1, 77, family.unet["cross_attention_dim"]).half(), halves)


def blank_clip(model: StableDiffusion, family: Family, width: int, height: int) -> InvertedClip:
    inversion, shape = MemoryInversion(), (FRAMES, 4, height // 8, width // 8)
    frames = np.zeros((FRAMES, height, width, 3), np.uint8)
    inversion.write_frames((frame, Fraction(index), Fraction(1)) for index, frame in enumerate(frames))
    for level in (model.schedule.clean, *(step.at for step in model.schedule.steps(25, tokens=1))):
        inversion.write_latents(level, [torch.zeros(shape).half()])
    inversion.finish()
    return InvertedClip(model, inversion, conditioning(family), "a dog", Video(frames, rate=24), "fit", 25)


def keyframe_pass_bytes(model: StableDiffusion, fake: FakeTensorMode, family: Family, width: int, height: int) -> int:
    """The most that a full window of keyframes takes, beyond the weights, in a step of Plug-and-Play that gathers
    features."""
    source = blank_clip(model, family, width, height)
    mode, guidance = PnPMode(source, PnP()), Guidance(conditioning(family), conditioning(family), 7.5)
    options = Propagation(
        draw_keyframes=lambda count, _: [int(place) for place in np.linspace(0, count - 1, WINDOW)],
        window=WINDOW,
        extended=extended_sites("coarse", model.sites),
        is_edit_propagated=lambda step: False,
        propagate_guidance=True,
    )
    predict = TokenFlow(EditDenoiser(model, mode, guidance), BATCH, lambda *_: None, options)
    latents, step = torch.zeros(FRAMES, 4, height // 8, width // 8), model.schedule.steps(25, tokens=1)[2]
    with fake, LiveBytes() as counted:
        keyframes, _ = next(predict(latents, step))
    assert len(keyframes) == WINDOW
    return counted.peak


def decoding_bytes(model: StableDiffusion, fake: FakeTensorMode, width: int, height: int) -> int:
    """The most that decoding takes, beyond the weights, of as many frames as go through the autoencoder at once."""
    count = len(next(image_batches(FRAMES, BATCH, (width, height))))
    network = model._autoencoder._network
    with fake, LiveBytes() as counted, torch.no_grad():
        network.decode(torch.zeros(count, 4, height // 8, width // 8, dtype=network.dtype))
    return counted.peak


@pytest.mark.parametrize("aspect", [(1, 1), (16, 9)], ids=["square", "16:9"])
def test_edits_at_the_size_a_model_was_trained_at_fit_the_cards_people_have(
    aspect: tuple[int, int], family: Family, model: StableDiffusion, fake: FakeTensorMode
) -> None:
    """XL into 16 GiB, 1.5 into 8, with default settings and nothing offloaded."""
    width, height = fit_area(100 * aspect[0], 100 * aspect[1], family.side, 64)
    networks = (model.unet, model._autoencoder._network)
    weights = sum(each.nbytes for network in networks for each in network.parameters()) + 2 * TEXT_ENCODERS[family.name]
    work = max(keyframe_pass_bytes(model, fake, family, width, height), decoding_bytes(model, fake, width, height))
    assert weights + work <= (16 if family.is_xl else 8) * GIB
