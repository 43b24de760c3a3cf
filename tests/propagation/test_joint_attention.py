"""Propagation through joint attention, on tiny FLUX models: what is kept, and the identities that have to hold."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.propagation.test_tokenflow import clean
from tests.tiny import inverted_clip, moving_square
from tests.tiny_flux import tiny_flux, tiny_flux2
from tokenflow.config import Edit, Instruct, PnP, SDEdit
from tokenflow.correspondence.base import identity
from tokenflow.diffusion.guidance import Guidance
from tokenflow.diffusion.sampling import sample
from tokenflow.diffusion.schedules import Step
from tokenflow.models.attention import Site
from tokenflow.models.injection import EMPTY
from tokenflow.modes.instruct import InstructMode
from tokenflow.modes.mode import Mode
from tokenflow.modes.pnp import PnPMode
from tokenflow.modes.sdedit import SDEditMode
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.inversion import sampling_steps
from tokenflow.pipeline.kept_features import predict_kept
from tokenflow.pipeline.wiring import build_correspondence, propagation_options
from tokenflow.propagation import EditDenoiser, PerFrame, TokenFlow
from tokenflow.propagation.extended_attention import extended_attention, extended_sites
from tokenflow.propagation.feature_bank import EMPTY_BANK
from tokenflow.propagation.kept_features import KeptFeatures, KeptMemories
from tokenflow.propagation.warp import Warp

LATENTS = torch.randn(5, 4, 8, 12, generator=torch.Generator().manual_seed(0))

STEPS, ROUNDING = 6, 1e-3
"""The second is what latents in float16 lose, of about 2: a unit in the last of 11 binary digits."""

MODELS: dict[str, Callable[[], Any]] = {"flux": lambda: tiny_flux(kontext=True), "flux2": tiny_flux2}


@pytest.fixture(params=MODELS, scope="module")
def moving(request: Any) -> InvertedClip:
    return inverted_clip(moving_square(7), STEPS, iterations=10, model=MODELS[request.param]())


@pytest.fixture(params=MODELS, scope="module")
def still(request: Any) -> InvertedClip:
    frames = np.repeat(moving_square(1), 5, axis=0)
    return inverted_clip(frames, STEPS, iterations=10, model=MODELS[request.param]())


class Still:
    """Every token stays where it is, and is shown or occluded."""

    def __init__(self, confidence: float = 1.0) -> None:
        self._confidence = confidence

    def maps(self, frame: int, keyframe: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        positions, confidence = identity(height, width)
        return positions, confidence if frame == keyframe else self._confidence * confidence


MODES: dict[str, Callable[[InvertedClip], Mode]] = {
    "pnp": lambda source: PnPMode(source, PnP(features_until=0.7, attention_until=0.7)),
    "pnp, block": lambda source: PnPMode(source, PnP(features="block")),
    "sdedit": lambda source: SDEditMode(source, SDEdit(strength=0.5, noise="shared"), 0),
    "instruct": lambda source: InstructMode(source, Instruct(), 0),
}


def prompts(source: InvertedClip, text: str, scale: float) -> Guidance:
    model = source.model
    negative = model.condition("", negative=True) if model.guidance == "branches" else None
    return Guidance(model.condition(text), negative, scale)


def edited(source: InvertedClip, mode: Mode, prompt: str = "a golden tiger", scale: float = 3.0, **edit: Any) -> Tensor:
    denoiser = EditDenoiser(source.model, mode, prompts(source, prompt, scale))
    settings = Edit(**{"prompt": prompt, "keyframe_interval": 3, "guidance_scale": scale, **edit})
    options = propagation_options(source, settings)
    if settings.propagation == "none":
        return result_of(source, mode, PerFrame(denoiser, 3))
    return result_of(source, mode, TokenFlow(denoiser, 3, build_correspondence(source, settings), options))


def result_of(source: InvertedClip, mode: Mode, predict: Any) -> Tensor:
    start, taken = mode.initial_latents(sampling_steps(source.model, source.inversion, STEPS))
    *_, latents = sample(start, taken, predict, source.model.schedule.parametrisation)
    return latents


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("until", [0.0, 0.5])
def test_a_still_clip_gives_still_output_which_is_that_of_each_frame_alone(
    name: str, until: float, still: InvertedClip
) -> None:
    mode = MODES[name](still)
    result = edited(still, mode, propagate_edit_until=until)
    torch.testing.assert_close(result, result[:1].expand_as(result), rtol=0, atol=ROUNDING)
    torch.testing.assert_close(result, edited(still, mode, propagation="none"), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("features", ["residual", "block"])
def test_with_the_sources_prompt_and_full_injection_the_source_comes_back(features: str, moving: InvertedClip) -> None:
    mode = PnPMode(moving, PnP(features_until=1, attention_until=1, features=features))
    _, taken = mode.initial_latents(sampling_steps(moving.model, moving.inversion, STEPS))
    assert taken[0].at.share <= 0.936  # which is not where sampling from noise begins
    for options in ({"propagation": "none"}, {"propagate_edit_until": 1.0, "keyframe_interval": 7}):
        result = edited(moving, mode, "a dog on grass", 1.0, **options)
        torch.testing.assert_close(result, clean(moving), rtol=0, atol=ROUNDING)


def test_keyframes_attend_to_each_other_with_a_text_of_their_own_and_equal_ones_do_as_alone() -> None:
    for make in MODELS.values():
        model = make()
        level, prompt = model.schedule.steps(4, 24)[2].at, model.condition("a dog")

        def together(latents: Tensor, model: Any = model, level: Any = level, prompt: Any = prompt) -> Tensor:
            sites = extended_sites("coarse", model.sites)
            attention = extended_attention(EMPTY, len(latents), EMPTY_BANK, sites, {}, {})
            return model.predict(latents, level, prompt, attention=attention)[0]

        equal = LATENTS[:1].expand(5, -1, -1, -1)
        torch.testing.assert_close(together(equal), model.predict(equal, level, prompt)[0], rtol=0, atol=1e-5)
        assert (together(LATENTS) - model.predict(LATENTS, level, prompt)[0]).abs().max() > 1e-4


def test_where_features_rest_changes_nothing_and_half_of_the_layers_take_half_of_the_memory(
    moving: InvertedClip,
) -> None:
    mode = MODES["pnp"](moving)
    whole = edited(moving, mode, propagate_edit_until=0.0)
    assert torch.equal(edited(moving, mode, propagate_edit_until=0.0, kept_features="main_memory"), whole)
    half = edited(moving, mode, propagate_edit_until=0.0, propagated_layers="half")
    assert half.isfinite().all()
    assert not torch.equal(half, whole)


def test_the_memory_of_kept_features_is_predicted_exactly(
    moving: InvertedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    keep = KeptFeatures.__setitem__

    def counting(self: KeptFeatures, site: str, features: Tensor) -> None:
        keep(self, site, features)
        if site in self:
            kept.append(self[site].numel() * self[site].element_size())

    monkeypatch.setattr(KeptFeatures, "__setitem__", counting)
    taken = len(MODES["instruct"](moving).initial_latents(sampling_steps(moving.model, moving.inversion, STEPS))[1])
    for name in ("sdedit", "instruct"):
        for layers in ("all", "half"):
            kept.clear()
            settings = Edit(prompt="", mode=name, propagated_layers=layers, guidance_scale=3.0)
            edited(moving, MODES[name](moving), propagate_edit_until=0.0, propagated_layers=layers)
            steps = taken if name == "instruct" else STEPS // 2
            assert predict_kept(moving, settings, 3).count * steps == sum(kept)
    kept.clear()
    edited(moving, MODES["sdedit"](moving), propagate_edit_until=1.0)  # which reads no features
    assert not kept


def test_only_branches_that_are_read_are_kept_and_the_others_can_be_freed() -> None:
    kept = KeptFeatures({"one"}, 1, None)
    both = torch.randn(2, 3, 4, 5)
    kept["one"], kept["two"] = both, both
    assert set(kept) == {"one"}
    assert torch.equal(kept["one"], both[1:])
    assert kept["one"].untyped_storage().nbytes() == both[1:].numel() * 4


def test_keys_and_values_are_kept_of_keyframes_only_that_others_attend_to() -> None:
    memory, kept, nothing = torch.randn(2, 3, 4, 5), KeptMemories([2]), KeptMemories([])
    kept["one"] = nothing["one"] = memory
    assert torch.equal(kept["one"], memory[:, [2]])
    assert kept["one"].untyped_storage().nbytes() == memory[:, [2]].numel() * 4
    assert not nothing


def test_text_is_blended_by_closeness_and_images_are_warped() -> None:
    warp = Warp([1, 2, 6], [0, 4], Still(), {(2, 3)}, torch.device("cpu"))
    tokens = torch.randn(2, 2, 4 + 2 * 6, 5)
    carried = warp.warp_sequence(tokens, (2, 3), text_tokens=4)
    for place, share in enumerate((0.75, 0.5, 0.0)):  # frame 6 has a keyframe on one side only
        expected = share * tokens[:, 0] + (1 - share) * tokens[:, 1]
        torch.testing.assert_close(carried[:, place], expected, rtol=0, atol=1e-6)
    assert torch.equal(carried[:, :, 4:10], warp.warp_tokens(tokens[:, :, 4:10], (2, 3)))


def test_occluded_tokens_attend_to_their_own_frame_and_its_text(moving: InvertedClip) -> None:
    mode = MODES["sdedit"](moving)
    _, taken = mode.initial_latents(sampling_steps(moving.model, moving.inversion, STEPS))
    denoiser = EditDenoiser(moving.model, mode, prompts(moving, "a tiger", 1.0))
    options = propagation_options(moving, Edit(prompt="", keyframe_interval=7, propagate_edit_until=0.0))

    def prediction(predict: Any, step: Step) -> Tensor:
        start = mode.source_latents_at(step.at)
        parts = {index: part[place] for indices, part in predict(start, step) for place, index in enumerate(indices)}
        return torch.stack([parts[index] for index in range(7)])

    everywhere = prediction(TokenFlow(denoiser, 3, Still(confidence=0.0), options), taken[0])
    alone = prediction(PerFrame(denoiser, 3), taken[0])
    # Image tokens attend as alone; only text tokens keep what the keyframe gave them.
    assert (everywhere - alone).abs().max() < (alone.std() / 2)
    shown = prediction(TokenFlow(denoiser, 3, Still(), options), taken[0])
    assert (everywhere - alone).square().mean() < (shown - alone).square().mean()


def test_sites_say_how_wide_their_features_are() -> None:
    assert {site.width for site in tiny_flux().sites} == {16}
    assert replace(Site("one", 2), width=3).width == 3
