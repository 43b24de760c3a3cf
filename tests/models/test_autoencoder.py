"""Every kind of autoencoder encodes and decodes as diffusers' own pipelines use it."""

from typing import Any

import pytest
import torch
from diffusers import AsymmetricAutoencoderKL, AutoencoderKL, AutoencoderTiny

from tests.tiny import tiny_pipeline, tiny_vae, tiny_xl_pipeline
from tokenflow.models.autoencoder import Autoencoder
from tokenflow.models.stable_diffusion import StableDiffusion

FRAMES = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
LATENTS = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(1))


def with_config(**changes: Any) -> AutoencoderKL:
    config = {name: value for name, value in tiny_vae().config.items() if name != "_use_default_values"}
    torch.manual_seed(1)
    return AutoencoderKL.from_config({**config, **changes})


def asymmetric() -> AsymmetricAutoencoderKL:
    torch.manual_seed(1)
    return AsymmetricAutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 2,
        down_block_out_channels=(8, 8),
        up_block_types=("UpDecoderBlock2D",) * 2,
        up_block_out_channels=(8, 16),
        norm_num_groups=4,
    ).eval()


def taesd() -> AutoencoderTiny:
    torch.manual_seed(1)
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8),
        decoder_block_out_channels=(8, 8),
        num_encoder_blocks=(1, 1),
        num_decoder_blocks=(1, 1),
        scaling_factor=1.0,
    )


def wrapped(network: Any) -> Autoencoder:
    return Autoencoder(network.eval(), torch.device("cpu"), lambda each: each)


@pytest.mark.parametrize(("dtype", "last"), [(torch.float32, False), (torch.bfloat16, True)], ids=str)
def test_channels_are_last_in_memory_where_that_is_faster_and_float32_keeps_its_bits(
    dtype: torch.dtype, last: bool
) -> None:
    network, plain = (tiny_vae().to(dtype).eval() for _ in range(2))
    decoded = wrapped(network).decode(LATENTS)
    assert network.decoder.conv_in.weight.is_contiguous(memory_format=torch.channels_last) == last
    with torch.no_grad():
        expected = (plain.decode(LATENTS.to(dtype)).sample.float() / 2 + 0.5).clamp(0, 1)
    torch.testing.assert_close(decoded, expected, rtol=0, atol=0.02 if last else 0)


@pytest.mark.parametrize(
    "network", [tiny_vae(), with_config(scaling_factor=0.18215), asymmetric(), taesd()], ids=lambda each: type(each)
)
def test_frames_are_decoded_and_encoded_as_by_diffusers(network: Any) -> None:
    pipeline = tiny_pipeline()
    pipeline.register_modules(vae=network)
    model = StableDiffusion(pipeline)
    with torch.no_grad():
        expected = pipeline.image_processor.postprocess(
            network.decode(LATENTS / network.config.scaling_factor).sample, output_type="pt"
        )
    torch.testing.assert_close(model.decode(LATENTS), expected, rtol=0, atol=1e-6)
    with torch.no_grad():
        output = network.encode(FRAMES * 2 - 1)
    encoded = output.latents if isinstance(network, AutoencoderTiny) else output.latent_dist.mode()
    torch.testing.assert_close(model.encode(FRAMES), network.config.scaling_factor * encoded, rtol=0, atol=1e-6)
    assert model.pixels_per_latent == 2


def test_latents_are_normalised_by_their_mean_and_deviation_as_by_diffusers() -> None:
    pipeline = tiny_xl_pipeline()
    statistics = {"latents_mean": [1.0, -2.0, 0.5, 0.0], "latents_std": [2.0, 0.5, 1.0, 4.0]}
    pipeline.register_modules(vae=with_config(**statistics, scaling_factor=0.5))
    pipeline.set_progress_bar_config(disable=True)
    model = StableDiffusion(pipeline)
    made: dict[str, Any] = {
        kind: pipeline(
            "a dog", num_inference_steps=1, generator=torch.Generator().manual_seed(3), output_type=kind
        ).images
        for kind in ("latent", "pt")
    }
    torch.testing.assert_close(model.decode(made["latent"]), made["pt"], rtol=0, atol=1e-5)
    plain = wrapped(with_config(scaling_factor=1.0)).encode(FRAMES)
    mean, deviation = (torch.tensor(each).reshape(1, 4, 1, 1) for each in statistics.values())
    torch.testing.assert_close(model.encode(FRAMES), (plain - mean) * 0.5 / deviation, rtol=0, atol=1e-5)
