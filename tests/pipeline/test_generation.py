"""generate() beside diffusers' own text-to-image pipelines."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

import tokenflow
from tests.tiny import tiny_pipeline, tiny_xl_pipeline
from tokenflow.errors import ConfigError
from tokenflow.models.stable_diffusion import StableDiffusion


@pytest.mark.parametrize("guidance_scale", [1.0, 5.0])
@pytest.mark.parametrize(
    "changes",
    [{}, {"prediction_type": "v_prediction"}, {"prediction_type": "v_prediction", "zero_terminal_snr": True}],
    ids=["noise", "velocity", "zero terminal SNR"],
)
def test_images_are_those_of_diffusers_with_ddim(changes: dict[str, object], guidance_scale: float) -> None:
    pipeline = tiny_pipeline(**changes)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        "a dog",
        height=16,
        width=24,
        num_inference_steps=7,
        guidance_scale=guidance_scale,
        generator=torch.Generator().manual_seed(3),
        num_images_per_prompt=2,
        output_type="np",
    ).images
    made = tokenflow.generate(
        StableDiffusion(pipeline), "a dog", size=(24, 16), steps=7, guidance_scale=guidance_scale, seed=3, count=2
    )
    # Float32 through seven steps, rounded to eight bits here.
    assert np.abs(made / 255 - expected).max() < 0.5 / 255 + 1e-3


def test_sdxls_images_are_those_of_diffusers_at_another_size_than_its_own() -> None:
    pipeline = tiny_xl_pipeline()
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        "a dog",
        height=24,
        width=32,
        num_inference_steps=5,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    ).images
    made = tokenflow.generate(StableDiffusion(pipeline), "a dog", size=(32, 24), steps=5, guidance_scale=5.0, seed=3)
    assert np.abs(made / 255 - expected).max() < 0.5 / 255 + 1e-3


def test_sizes_are_rounded_to_what_the_model_takes_and_by_default_native() -> None:
    model = StableDiffusion(tiny_pipeline())
    assert tokenflow.generate(model, "a dog", steps=1).shape == (1, 16, 16, 3)
    assert tokenflow.generate(model, "a dog", steps=1, size=(25, 15), count=3, batch_size=2).shape == (3, 16, 24, 3)


def test_the_seed_decides_the_image() -> None:
    model = StableDiffusion(tiny_pipeline())
    one, same, other = (tokenflow.generate(model, "a dog", steps=2, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_values_out_of_range_are_refused() -> None:
    for name in ("guidance_scale", "count", "steps"):
        with pytest.raises(ConfigError, match=name):
            tokenflow.generate(StableDiffusion(tiny_pipeline()), "a dog", **{name: 0})
