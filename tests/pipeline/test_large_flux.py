"""Frames of 2048×2048 pixels through the real classes of FLUX with next to no channels: size, memory and seams."""

import gc
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2

import tokenflow
from tests.tiny_flux import AUTOENCODER, tiny_flux2_pipeline, tiny_flux_pipeline
from tokenflow import SDEdit
from tokenflow.errors import TokenflowWarning
from tokenflow.events import Event, Notice
from tokenflow.models.autoencoder import TILED_ABOVE, Autoencoder
from tokenflow.models.flux import Flux
from tokenflow.models.flux2 import Flux2
from tokenflow.models.joint_transformer import JointTransformer
from tokenflow.report.profiling import Stopwatch
from tokenflow.video import Video

SIDE = 2048

BY_8: dict[str, Any] = {
    **AUTOENCODER,
    "block_out_channels": (1,) * 4,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "norm_num_groups": 1,
    "sample_size": 1024,
    "mid_block_add_attention": False,
}
"""An autoencoder that shrinks images by 8, as the published ones do."""


def large_flux() -> JointTransformer:
    pipeline = tiny_flux_pipeline(double=1, single=1)
    pipeline.vae = AutoencoderKL(**BY_8, shift_factor=0.0).eval()
    return Flux(pipeline)


def large_flux2() -> JointTransformer:
    # One wide head computes faster than two narrow ones.
    pipeline = tiny_flux2_pipeline(
        distilled=True, double=1, single=1, num_attention_heads=1, attention_head_dim=16, axes_dims_rope=(4,) * 4
    )
    pipeline.vae = AutoencoderKLFlux2(**BY_8).eval()
    return Flux2(pipeline)


def test_a_frame_of_four_megapixels_is_edited_at_its_size_in_bounded_memory() -> None:
    model, notices = large_flux2(), []
    assert (model.native_size, model.size_multiple, model.pixels_per_latent) == (1024, 16, 8)
    frames = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)

    def listen(event: Event) -> None:
        if isinstance(event, Notice):
            notices.append(event.message)

    watch = Stopwatch(torch.device("cpu"))
    with watch.stage("before"):
        gc.collect()
    with watch.stage("edit"):
        source = tokenflow.invert(Video(frames, rate=1), model, "a dog", steps=0, size=SIDE, on_event=listen)
        mode = SDEdit(strength=1.0, noise="shared")
        edited = tokenflow.edit(source, "a tiger", mode=mode, steps=2, guidance_scale=1)
    assert [text for text in notices if "frames of 2048×2048 are encoded and decoded in overlapping tiles" in text]
    assert source.latents(model.schedule.clean).shape == (1, 4, SIDE // 8, SIDE // 8)
    assert edited.frames.shape == (1, SIDE, SIDE, 3)
    assert edited.decoded.std() > 0
    # With all weights of softmax over 16,416 tokens in memory, a head alone would take 1.1 GB, and its scores as much.
    peaks = watch.figures()["stage_peak_memory_mb"]
    assert peaks["edit"] - peaks["before"] < 1500


def test_any_aspect_is_rounded_to_what_the_model_takes_and_brought_back() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 54, 130, 3), dtype=np.uint8)
    for make in (large_flux, large_flux2):
        on_event: list[Event] = []
        inverted = tokenflow.invert(Video(frames, rate=1), make(), "a dog", steps=1, size=48, on_event=on_event.append)
        assert inverted.size == (112, 48)
        assert tokenflow.edit(inverted, "a tiger", guidance_scale=1).frames.shape == frames.shape


def test_tiles_have_no_seams_and_are_for_large_images_only(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = AutoencoderKL(**{**BY_8, "block_out_channels": (8,) * 4, "norm_num_groups": 2, "sample_size": 128}).eval()
    own = Autoencoder(network, torch.device("cpu"), lambda part: part)
    waves = torch.linspace(0, 40, 320)
    colours = torch.stack([waves.sin(), waves.cos(), (2 * waves).sin()]) / 4 + 0.5  # 3 320
    frames = ((colours[:, None] + colours[:, :, None]) / 2)[None]  # 1 3 320 320
    latents = own.encode(frames)
    whole = own.decode(latents)
    assert TILED_ABOVE == 1536**2
    monkeypatch.setattr("tokenflow.models.autoencoder.TILED_ABOVE", 300**2)
    with pytest.warns(TokenflowWarning, match="overlapping tiles"):
        encoded = own.encode(frames)
    assert not network.use_tiling  # for smaller frames
    tiled = own.decode(latents)
    assert not torch.equal(tiled, whole)
    # Tiles begin every 96 pixels and blend over 32: there, neighbouring pixels differ as they do in the whole frame.
    for axis in (-1, -2):
        other = -3 - axis
        steps, expected = (each.diff(dim=axis).abs().mean((0, 1, other)) for each in (tiled, whole))
        borders = [96 * count + offset for count in (1, 2, 3) for offset in (-1, 0, 30)]
        assert (steps[borders] / expected[borders]).max() < 1.5
        between, whole_latents = (each.diff(dim=axis).abs().mean((0, 1, other)) for each in (encoded, latents))
        assert (between[[11, 23, 35]] / whole_latents[[11, 23, 35]]).max() < 1.5
    own.encode(frames[..., :256, :256])  # in one piece again: nothing is said
