"""The largest images that Sana makes, through the real classes with next to no channels."""

import numpy as np
import pytest
import torch
from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, SanaPipeline, SanaTransformer2DModel

import tokenflow
from tests.tiny_sana import SIZES, WORDS, tiny_gemma
from tokenflow.errors import TokenflowWarning
from tokenflow.models.sana import Sana
from tokenflow.video import Video

SIDE = 4096


def large_sana() -> Sana:
    """One block for 4096 pixels, with an autoencoder that shrinks images by 32, as the published one does."""
    torch.manual_seed(20)
    channels, layers = (4,) * 6, (0, *(1,) * 5)
    autoencoder = AutoencoderDC(
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=channels,
        decoder_block_out_channels=channels,
        encoder_layers_per_block=layers,
        decoder_layers_per_block=layers,
        encoder_qkv_multiscales=((),) * 6,
        decoder_qkv_multiscales=((),) * 6,
    )
    # Sana's own position signal above 1024 pixels, which depends on the size.
    sizes = {**SIZES, "sample_size": SIDE // 32, "interpolation_scale": 2}
    scheduler = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=6.0)
    transformer = SanaTransformer2DModel(num_layers=1, **sizes)
    return Sana(SanaPipeline(*tiny_gemma(), autoencoder, transformer, scheduler), WORDS)


def test_a_frame_of_4096_pixels_is_edited_at_its_size() -> None:
    model = large_sana()
    assert (model.native_size, model.size_multiple) == (SIDE, 32)
    frames = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)
    with pytest.warns(TokenflowWarning, match="frames of 4096×4096 .* in overlapping tiles"):
        inverted = tokenflow.invert(Video(frames, rate=1), model, "a dog", steps=2)
    assert inverted.latents(model.schedule.clean).shape == (1, 4, SIDE // 32, SIDE // 32)
    edited = tokenflow.edit(inverted, "a tiger")
    assert edited.decoded.shape == (1, SIDE, SIDE, 3)
    assert edited.decoded.std() > 0
