"""Edits without an inversion, on tiny random networks of each family."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tokenflow
from tests.tiny import moving_square, save_tiny_setup, tiny_lcm_pipeline, tiny_model, whole
from tests.tiny_sana import WORDS, tiny_sana, tiny_sprint_pipeline
from tokenflow.config import Edit, FlowEdit, load_config
from tokenflow.diffusion.schedules import Step
from tokenflow.errors import ConfigError
from tokenflow.models.model import Model
from tokenflow.models.sana import Sana
from tokenflow.models.stable_diffusion import StableDiffusion
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.sampling import sample_edit
from tokenflow.pipeline.wiring import build_correspondence, build_guidance, build_mode
from tokenflow.video import Video

PROMPT = "a dog on grass"
CLIP = Video(moving_square(6), rate=1)

MODELS: dict[str, Callable[[], Model]] = {
    "noise": tiny_model,
    "velocity": lambda: tiny_model(prediction_type="v_prediction"),
    "flow": tiny_sana,
    "sprint": lambda: Sana(tiny_sprint_pipeline(), WORDS),
    "lcm": lambda: StableDiffusion(tiny_lcm_pipeline()),
}


@pytest.fixture(scope="module", params=MODELS)
def source(request: Any) -> InvertedClip:
    return tokenflow.invert(CLIP, MODELS[request.param](), PROMPT, steps=0)


@pytest.fixture(scope="module")
def noise() -> InvertedClip:
    return tokenflow.invert(CLIP, tiny_model(), PROMPT, steps=0)


def settings(prompt: str, **changes: Any) -> Edit:
    flowedit = {"strength": 1.0, "source_guidance_scale": 1.5}
    return Edit(prompt=prompt, mode="flowedit", steps=3, guidance_scale=1.5, **{"flowedit": flowedit, **changes})


def sampled(source: InvertedClip, edit: Edit) -> torch.Tensor:
    guidance = build_guidance(source.model, edit.prompt, "", edit.guidance_scale, source.size)
    return whole(sample_edit(source, guidance, edit, build_correspondence(source, edit)))


def clean(source: InvertedClip) -> torch.Tensor:
    return source.latents(source.model.schedule.clean)


def test_nothing_but_clean_latents_is_made_of_the_clip(source: InvertedClip) -> None:
    assert list(source.inversion.levels) == [source.model.schedule.clean]
    assert source.steps == 0


@pytest.mark.parametrize("propagation", ["tokenflow", "none"])
def test_with_the_sources_prompt_and_guidance_the_source_comes_back(source: InvertedClip, propagation: str) -> None:
    returned = sampled(source, settings(PROMPT, propagation=propagation))
    torch.testing.assert_close(returned, clean(source), rtol=0, atol=1e-4)


def test_with_varied_noise_the_source_comes_back_as_well(noise: InvertedClip) -> None:
    """Also where the schedule's clean level has a little noise, as here."""
    returned = sampled(noise, settings(PROMPT, variation=0.7))
    torch.testing.assert_close(returned, clean(noise), rtol=0, atol=1e-4)


def flow(source: InvertedClip, latents: torch.Tensor, step: Step, prompt: str) -> torch.Tensor:
    """n̂ − x̂₀ of a prediction: the velocity of x/(a+b) over s = b/(a+b)."""
    model = source.model
    guidance = build_guidance(model, prompt, "", 1.5, source.size)
    branches = model.predict(latents, step.at, guidance.branches)
    prediction = guidance.combine(*guidance.split(branches))
    parametrisation = model.schedule.parametrisation
    return parametrisation.noise(latents, prediction, step.at) - parametrisation.clean(latents, prediction, step.at)


@pytest.mark.parametrize("family", ["noise", "velocity", "flow"])
def test_every_frame_moves_as_the_papers_algorithm_says(family: str) -> None:
    """Kulikov et al., algorithm 1: z ← z + (s′ − s)·(v(z + x_src − x₀, edit) − v(x_src, source)), in x/(a+b) and s."""
    source = tokenflow.invert(CLIP, MODELS[family](), PROMPT, steps=0)
    edit = settings("a golden tiger", propagation="none")
    mode = build_mode(source, edit)
    moved = clean(source)
    for step in source.model.schedule.steps(edit.steps):
        noisy, scale = whole(mode.source_latents_at(step.at)), step.at.signal + step.at.noise
        of_edit = flow(source, noisy + scale * (moved - clean(source)), step, edit.prompt)
        moved = moved + (step.to.share - step.at.share) * (of_edit - flow(source, noisy, step, PROMPT))
    last = source.model.schedule.clean  # which in some schedules has a little noise
    expected = clean(source) + (last.signal + last.noise) * (moved - clean(source))
    torch.testing.assert_close(sampled(source, edit), expected, rtol=0, atol=2e-4)
    assert (moved - clean(source)).abs().max() > 1e-2


def test_a_seed_draws_other_noise(noise: InvertedClip) -> None:
    first, second, again = (sampled(noise, settings("a tiger", seed=seed)) for seed in (0, 1, 0))
    assert torch.equal(first, again)
    assert (first - second).abs().max() > 1e-3


def test_modes_that_need_an_inversion_say_so(noise: InvertedClip) -> None:
    with pytest.raises(ConfigError, match=r"edit\.mode pnp needs an inversion, .*0 steps; .*mode flowedit"):
        tokenflow.edit(noise, "a tiger")


def test_it_edits_clips_that_were_inverted(noise: InvertedClip) -> None:
    """Of an inversion it reads the clean latents only."""
    inverted = tokenflow.invert(CLIP, noise.model, PROMPT, steps=2)
    mode = FlowEdit(strength=1.0)
    one, other = (tokenflow.edit(each, "a tiger", mode=mode, steps=2).frames for each in (inverted, noise))
    assert (one == other).all()


def test_a_run_inverts_nothing_and_checks_nothing(tmp_path: Path) -> None:
    config = load_config(save_tiny_setup(tmp_path, frames=4, steps=2), ["edit.mode=flowedit"])
    stages = []
    result = tokenflow.run(
        config, on_event=lambda event: stages.append(event.stage) if isinstance(event, tokenflow.Progress) else None
    )
    assert list(dict.fromkeys(stages)) == ["load", "read", "encode", "flow", "edit", "decode"]
    assert result.report["inversion"]["steps"] == 0
    assert "reconstruction" not in result.report["metrics"]
