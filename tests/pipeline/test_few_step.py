"""Edits with models of few steps: no inversion, anchored to the source, on tiny random networks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tokenflow
from tests.tiny import (
    moving_square,
    save_tiny_controlnet,
    tiny_lcm_pipeline,
    tiny_pipeline,
    tiny_turbo_pipeline,
    tiny_xl_pipeline,
    whole,
)
from tests.tiny_sana import WORDS, save_tiny_sana_controlnet, tiny_sprint_pipeline
from tokenflow.config import ControlNet, Edit
from tokenflow.diffusion.levels import at_level, shared_noise
from tokenflow.errors import TokenflowWarning
from tokenflow.models.model import Model
from tokenflow.models.sana import Sana
from tokenflow.models.stable_diffusion import StableDiffusion
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.regions import Region
from tokenflow.pipeline.sampling import sample_edit
from tokenflow.pipeline.wiring import build_correspondence, build_guidance
from tokenflow.video import Video

PROMPT = "a dog on grass"

CLIP = Video(moving_square(6), rate=1)

MODELS: dict[str, Callable[[], Model]] = {
    "sprint": lambda: Sana(tiny_sprint_pipeline(), WORDS),
    "lcm": lambda: StableDiffusion(tiny_lcm_pipeline()),
    "turbo": lambda: StableDiffusion(tiny_turbo_pipeline()),
    "named": lambda: StableDiffusion(tiny_pipeline(), few_step=True),
    "velocity": lambda: StableDiffusion(tiny_pipeline(prediction_type="v_prediction"), few_step=True),
}


def source_of(model: Model) -> InvertedClip:
    with pytest.warns(TokenflowWarning, match="cannot be inverted: only the clean latents are kept"):
        return tokenflow.invert(CLIP, model, PROMPT)


@pytest.fixture(scope="module", params=MODELS)
def source(request: Any) -> InvertedClip:
    return source_of(MODELS[request.param]())


@pytest.fixture(scope="module")
def sprint() -> InvertedClip:
    return source_of(MODELS["sprint"]())


def sampled(source: InvertedClip, prompt: str, **settings: Any) -> torch.Tensor:
    """The edited latents of all frames."""
    edit = Edit(prompt=prompt, **{"guidance_scale": 1.5, "steps": 2, **settings})
    guidance = build_guidance(source.model, prompt, edit.negative_prompt, edit.guidance_scale, source.size)
    return whole(sample_edit(source, guidance, edit, build_correspondence(source, edit)))


def clean(source: InvertedClip) -> torch.Tensor:
    return source.latents(source.model.schedule.clean)


def test_only_the_clean_latents_are_kept_and_others_lie_on_the_way_to_one_noise(source: InvertedClip) -> None:
    assert list(source.inversion.levels) == [source.model.schedule.clean]
    assert source.steps == 0
    level = source.model.schedule.steps(4)[2].at
    expected = at_level(clean(source), shared_noise(clean(source), 0), level)
    assert torch.equal(source.latents(level), expected)
    assert torch.equal(source.latents(level, [3, 1]), expected[[3, 1]])


CHANGES: dict[str, dict[str, Any]] = {
    "one step": {"steps": 1},
    "four steps": {"steps": 4},
    "sdedit": {"mode": "sdedit", "steps": 4, "sdedit": {"strength": 0.5}},
    "another noise": {"mode": "sdedit", "sdedit": {"strength": 1, "noise": "shared"}, "seed": 3},
    "varied": {"variation": 0.5, "seed": 3},
    "residuals": {"pnp": {"features": "residual"}},
    "every frame": {"propagation": "none"},
    "keyframes' edit": {"propagate_edit_until": 1},
    "features": {"propagate_edit_until": 0},
    "guidance per frame": {"propagate_edit_until": 0, "guidance": "per_frame"},
    "matched features": {"correspondence": "nearest"},
    "a negative prompt": {"negative_prompt": "a cat"},
}


@pytest.mark.filterwarnings("ignore:this model has no second branch")
@pytest.mark.parametrize("change", CHANGES)
def test_with_the_sources_prompt_the_source_comes_back_from_any_network(source: InvertedClip, change: str) -> None:
    """What is left is rounding, through the network at every step."""
    returned = sampled(source, PROMPT, **CHANGES[change])
    torch.testing.assert_close(returned, clean(source), rtol=0, atol=2e-5)


@pytest.mark.parametrize("family", ["sprint", "lcm"])
def test_with_the_sources_prompt_the_source_comes_back_through_a_controlnet(family: str, tmp_path: Path) -> None:
    save = save_tiny_sana_controlnet if family == "sprint" else save_tiny_controlnet
    source = source_of(MODELS[family]())
    returned = sampled(source, PROMPT, mode="controlnet", controlnet=ControlNet(path=str(save(tmp_path))))
    torch.testing.assert_close(returned, clean(source), rtol=0, atol=2e-5)


@pytest.mark.parametrize("propagation", ["tokenflow", "none"])
def test_with_the_sources_prompt_the_source_comes_back_from_sdxl(propagation: str) -> None:
    source = source_of(StableDiffusion(tiny_xl_pipeline(), few_step=True))
    returned = sampled(source, PROMPT, mode="sdedit", sdedit={"strength": 1}, propagation=propagation)
    torch.testing.assert_close(returned, clean(source), rtol=0, atol=2e-5)


def test_edited_frames_are_carried_and_the_rest_is_filled_in(sprint: InvertedClip) -> None:
    painted = 255 - CLIP.frames[0]
    edited = tokenflow.edit(sprint, "a tiger", mode=tokenflow.Keyframes({0: painted}))
    assert np.array_equal(edited.frames[0], painted)
    assert edited.frames.shape == CLIP.frames.shape


@pytest.mark.parametrize("propagation", ["tokenflow", "none"])
def test_another_prompt_changes_the_clip(source: InvertedClip, propagation: str) -> None:
    edited = sampled(source, "a golden tiger", propagation=propagation)
    assert edited.isfinite().all()
    assert (edited - clean(source)).abs().mean() > 1e-3


def test_an_edit_adds_what_the_prompts_differ_in_to_the_clean_latents(sprint: InvertedClip) -> None:
    """In one step: x₀ + x̂₀(x | edit) − x̂₀(x | source)."""
    model, step = sprint.model, sprint.model.schedule.steps(1)[0]
    latents = sprint.latents(step.at)
    own, others = (
        model.schedule.parametrisation.clean(
            latents, model.predict(latents, step.at, build_guidance(model, prompt, "", 1.5, None).branches)[0], step.at
        )
        for prompt in (PROMPT, "a tiger")
    )
    edited = sampled(sprint, "a tiger", steps=1, propagation="none", mode="sdedit", sdedit={"strength": 1})
    torch.testing.assert_close(edited, clean(sprint) + others - own, rtol=0, atol=1e-5)


def test_an_edit_through_the_library_takes_the_steps_that_the_model_was_made_for(sprint: InvertedClip) -> None:
    seen: list[int] = []
    edited = tokenflow.edit(
        sprint,
        "a tiger",
        on_event=lambda event: (
            seen.append(event.total) if isinstance(event, tokenflow.Progress) and event.stage == "edit" else None
        ),
    )
    assert set(seen) == {2}
    assert edited.frames.shape == CLIP.frames.shape


REGIONS: dict[str, Region] = {
    "mask": Region(mask=np.arange(24)[None].repeat(16, 0) < 12),
    "words": Region(words="dog"),
    "another prompt": Region(mask=np.arange(24)[None].repeat(16, 0) < 12, prompt="a cat on grass"),
}


@pytest.mark.parametrize("name", REGIONS)
def test_outside_of_a_region_pixels_stay_the_sources(sprint: InvertedClip, name: str) -> None:
    edited = tokenflow.edit(sprint, "a tiger on grass", regions=[REGIONS[name]])
    assert edited.masks is not None
    outside = edited.masks == 0
    assert np.array_equal(edited.frames[outside], CLIP.frames[outside])


def test_a_seed_draws_other_noise_by_variation_only(sprint: InvertedClip) -> None:
    how = {"mode": "sdedit", "sdedit": {"strength": 1}, "propagation": "none"}
    first, second = (sampled(sprint, "a tiger", variation=1, seed=seed, **how) for seed in (1, 2))
    assert (first - second).abs().max() > 1e-3
    first, second = (sampled(sprint, "a tiger", seed=seed, **how) for seed in (1, 2))
    assert torch.equal(first, second)


def test_many_steps_and_much_guidance_give_notices(source: InvertedClip) -> None:
    how = {"mode": "sdedit", "sdedit": {"strength": 0.2}}
    with pytest.warns(TokenflowWarning, match=r"edit\.steps is 9.*set it to [24]"):
        sampled(source, PROMPT, steps=9, **how)
    if source.model.guidance == "branches":
        with pytest.warns(TokenflowWarning, match=r"edit\.guidance_scale is 4, .*set it to 1"):
            sampled(source, PROMPT, guidance_scale=4, **how)


def test_a_negative_prompt_without_a_second_branch_gives_a_notice(sprint: InvertedClip) -> None:
    with pytest.warns(TokenflowWarning, match=r"edit\.negative_prompt has no effect"):
        sampled(sprint, PROMPT, negative_prompt="a cat")


def test_lcm_generates_what_its_pipeline_does_from_the_same_seed() -> None:
    pipeline = tiny_lcm_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        "a dog", num_inference_steps=4, guidance_scale=3.0, generator=torch.Generator().manual_seed(5), output_type="np"
    ).images
    images = tokenflow.generate(StableDiffusion(pipeline), "a dog", guidance_scale=3.0, seed=5)
    assert np.abs(images / 255 - expected).max() <= 0.5 / 255 + 1e-5


def test_sprint_generates_what_its_pipeline_does_from_the_same_seed() -> None:
    pipeline = tiny_sprint_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        "a dog",
        height=32,
        width=64,
        num_inference_steps=2,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(5),
        use_resolution_binning=False,
        max_sequence_length=32,
        complex_human_instruction=None,
        output_type="np",
    ).images
    images = tokenflow.generate(Sana(pipeline, WORDS), "a dog", guidance_scale=3.0, seed=5, size=(64, 32))
    assert np.abs(images / 255 - expected).max() <= 0.5 / 255 + 1e-5


def test_a_turbo_model_samples_what_its_pipeline_does_from_the_same_noise() -> None:
    pipeline = tiny_turbo_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    expected = pipeline(
        "a dog", num_inference_steps=4, guidance_scale=0.0, latents=noise.clone(), output_type="latent"
    ).images
    model = StableDiffusion(pipeline)
    assert model.guidance == "none"
    steps = model.schedule.steps(4)
    latents = noise * steps[0].at.noise  # its pipeline starts from σ·n at σ = b/a
    for step in steps:
        parametrisation = model.schedule.parametrisation
        prediction = model.predict(latents, step.at, model.condition("a dog"))[0]
        clean = parametrisation.clean(latents, prediction, step.at)
        latents = at_level(clean, parametrisation.noise(latents, prediction, step.at), step.to)
    torch.testing.assert_close(latents, expected, rtol=1e-5, atol=1e-5)


def test_a_stable_diffusion_of_many_steps_is_inverted_as_before() -> None:
    model = StableDiffusion(tiny_pipeline())
    source = tokenflow.invert(CLIP, model, PROMPT, steps=2)
    assert (source.steps, model.guidance, model.schedule.few_step) == (2, "branches", None)
