"""The identities that propagation has to keep, on a tiny Stable Diffusion."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.propagation.conftest import STEPS
from tests.tiny import level, save_tiny_controlnet, whole
from tokenflow import config as settings
from tokenflow.correspondence.base import Correspondence, identity
from tokenflow.correspondence.features import FeatureCorrespondence
from tokenflow.correspondence.flow import FlowCorrespondence
from tokenflow.diffusion.guidance import Guidance
from tokenflow.diffusion.sampling import Predict
from tokenflow.diffusion.sampling import sample as sampling_loop
from tokenflow.diffusion.schedules import Step
from tokenflow.modes.controlnet import ControlNetMode
from tokenflow.modes.mode import Call, Mode
from tokenflow.modes.pnp import PnPMode
from tokenflow.modes.sdedit import SDEditMode
from tokenflow.modes.source import InvertedClip
from tokenflow.modes.variation import Varied
from tokenflow.propagation import EditDenoiser, PerFrame, TokenFlow
from tokenflow.propagation.extended_attention import Levels, extended_sites
from tokenflow.propagation.feature_bank import FeatureBank
from tokenflow.propagation.keyframes import draw_keyframes, windows
from tokenflow.propagation.tokenflow import Propagation, keyframe_per_interval

ROUNDING = 2e-4
"""Float32 through four steps of the network, guidance 5 included; batches of another size sum in another order."""


def prediction_of_all(predict: Predict, latents: Tensor, step: Step) -> Tensor:
    """The noise of every frame in its place."""
    noise = torch.full_like(latents, torch.nan)
    for frames, part in predict(latents, step):
        noise[frames] = part
    return noise


def guidance(source: InvertedClip, prompt: str = "a golden tiger", scale: float = 5.0) -> Guidance:
    return Guidance(source.model.condition(prompt), source.model.condition(""), scale)


def flow(source: InvertedClip) -> Correspondence:
    return FlowCorrespondence(source.frames, *source.latents(source.model.schedule.clean, [0]).shape[-2:])


def clean(source: InvertedClip) -> Tensor:
    return source.latents(source.model.schedule.clean)


def tokenflow(
    source: InvertedClip,
    mode: Mode,
    guided: Guidance,
    *,
    batch_size: int = 3,
    correspondence: Correspondence | None = None,
    interval: int = 4,
    window: int = 8,
    extended: Levels = "coarse",
    propagate_guidance: bool = True,
    propagate_edit_until: float = 0.0,
    shots: tuple[range, ...] | None = None,
) -> TokenFlow:
    options = Propagation(
        shots=shots or source.shots,
        draw_keyframes=keyframe_per_interval(interval, seed=0),
        window=window,
        extended=extended_sites(extended, source.model.sites),
        is_edit_propagated=lambda step: step.ends_by(propagate_edit_until),
        propagate_guidance=propagate_guidance,
    )
    return TokenFlow(EditDenoiser(source.model, mode, guided), batch_size, correspondence or flow(source), options)


def pnp(source: InvertedClip, features: float = 0.8, attention: float = 0.5) -> PnPMode:
    return PnPMode(source, settings.PnP(features_until=features, attention_until=attention))


def sample(source: InvertedClip, mode: Mode, predict: Predict) -> Tensor:
    start, steps = mode.initial_latents(source.model.schedule.steps(STEPS))
    *_, latents = sampling_loop(start, steps, predict, source.model.schedule.parametrisation)
    return latents


MODES: dict[str, Callable[[InvertedClip, Path], Mode]] = {
    "pnp": lambda source, _: pnp(source),
    "sdedit": lambda source, _: SDEditMode(source, settings.SDEdit(strength=0.5, noise="shared"), 0),
    "controlnet": lambda source, folder: ControlNetMode(
        source, settings.ControlNet(path=str(save_tiny_controlnet(folder))), 0
    ),
    "pnp, varied": lambda source, _: Varied(pnp(source), source, 0.5, 0),
}


PROPAGATED: dict[str, dict[str, object]] = {
    "features": {"propagate_guidance": False},
    "guidance": {"propagate_guidance": True},
    "the whole edit, for a while": {"propagate_edit_until": 0.5},
    "the whole edit": {"propagate_edit_until": 1.0},
}


@pytest.mark.parametrize("propagated", PROPAGATED)
@pytest.mark.parametrize("name", MODES)
def test_the_result_does_not_depend_on_the_batch_size(
    name: str, propagated: str, moving: InvertedClip, tmp_path: Path
) -> None:
    mode = MODES[name](moving, tmp_path)
    results = [
        sample(moving, mode, tokenflow(moving, mode, guidance(moving), batch_size=size, **PROPAGATED[propagated]))
        for size in (1, 4, 100)
    ]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("propagated", PROPAGATED)
@pytest.mark.parametrize("name", MODES)
def test_a_still_clip_gives_still_output(name: str, propagated: str, still: InvertedClip, tmp_path: Path) -> None:
    mode = MODES[name](still, tmp_path)
    result = sample(still, mode, tokenflow(still, mode, guidance(still), **PROPAGATED[propagated]))
    torch.testing.assert_close(result, result[:1].expand_as(result), rtol=0, atol=ROUNDING)


def test_per_frame_guidance_1_with_the_sources_prompt_and_full_injection_returns_the_source(
    moving: InvertedClip,
) -> None:
    mode = pnp(moving, 1.0, 1.0)
    predict = PerFrame(EditDenoiser(moving.model, mode, guidance(moving, "a dog on grass", 1.0)), 4)
    # What remains is the fixed-point iteration's last correction.
    torch.testing.assert_close(sample(moving, mode, predict), clean(moving), rtol=0, atol=1e-3)


@pytest.mark.parametrize("levels", ["coarse", "all"])
def test_with_propagation_a_still_clip_at_guidance_1_with_full_injection_returns_the_source(
    levels: Levels, still: InvertedClip
) -> None:
    """The same tokens several times change no softmax."""
    mode = pnp(still, 1.0, 1.0)
    predict = tokenflow(still, mode, guidance(still, "a dog on grass", 1.0), extended=levels)
    torch.testing.assert_close(sample(still, mode, predict), clean(still), rtol=0, atol=1e-3)


def test_an_edit_that_changes_nothing_returns_a_moving_source_where_propagated_whole(
    moving: InvertedClip,
) -> None:
    """One keyframe, so that it attends to itself alone, and what it adds to its source is nothing."""
    mode = pnp(moving, 1.0, 1.0)
    unchanged = guidance(moving, "a dog on grass", 1.0)
    predict = tokenflow(moving, mode, unchanged, interval=len(moving.frames), propagate_edit_until=1.0)
    torch.testing.assert_close(sample(moving, mode, predict), clean(moving), rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", MODES)
def test_where_the_whole_edit_is_propagated_every_frame_adds_the_same_to_its_own_source(
    name: str, moving: InvertedClip, tmp_path: Path
) -> None:
    mode = MODES[name](moving, tmp_path)
    start, steps = mode.initial_latents(moving.model.schedule.steps(STEPS))
    predict = tokenflow(
        moving, mode, guidance(moving), correspondence=IdentityMaps(), interval=11, propagate_edit_until=1.0
    )
    added = prediction_of_all(predict, whole(start), steps[0])
    denoiser = EditDenoiser(moving.model, mode, guidance(moving))
    added -= denoiser.source_prediction(range(len(added)), steps[0])
    assert added.abs().mean() > 0.01
    torch.testing.assert_close(added, added[:1].expand_as(added), rtol=0, atol=ROUNDING)


def test_where_the_whole_edit_is_propagated_the_network_sees_keyframes_alone(
    moving: InvertedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    mode = pnp(moving)
    start, steps = mode.initial_latents(moving.model.schedule.steps(STEPS))
    predict = tokenflow(moving, mode, guidance(moving), propagate_edit_until=0.5)
    residuals, seen = mode.residuals, list[int]()
    monkeypatch.setattr(mode, "residuals", lambda call: seen.extend(call.indices) or residuals(call))
    for step in steps:
        seen.clear()
        prediction_of_all(predict, whole(start), step)
        propagated = step.index < 2
        assert len(seen) == (len(draw_keyframes(len(start), 4, 0, step.index)) if propagated else len(start))


def test_with_propagation_a_moving_clip_at_guidance_1_stays_nearer_to_the_source_than_to_an_edit(
    moving: InvertedClip,
) -> None:
    # Keyframes attend to each other, flow is estimated and features are propagated, so a moving clip is not returned to
    # the digit: 0.3 with this random model, whose features mean nothing.
    source = clean(moving)
    mode = pnp(moving, 1.0, 1.0)
    returned = sample(moving, mode, tokenflow(moving, mode, guidance(moving, "a dog on grass", 1.0)))
    edited = sample(moving, pnp(moving), tokenflow(moving, pnp(moving), guidance(moving)))
    assert (returned - source).abs().mean() < 0.4 * (edited - source).abs().mean()


class IdentityMaps:
    """Every token stays where it is, for sure."""

    def maps(self, frame: int, keyframe: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        return identity(height, width)


def test_a_keyframe_gets_its_own_tokens_back(moving: InvertedClip) -> None:
    """With an interval of 1 every frame is a keyframe; a frame next to it with its latents gets the same noise."""
    mode = SDEditMode(moving, settings.SDEdit(strength=1.0), 0)
    start, steps = mode.initial_latents(moving.model.schedule.steps(STEPS))
    twins = start[[0]].repeat(4, 1, 1, 1)
    predict = tokenflow(
        moving, mode, guidance(moving), correspondence=IdentityMaps(), propagate_guidance=False, shots=(range(4),)
    )
    keyframe = draw_keyframes(4, 4, 0, 0)[0]
    noise = prediction_of_all(predict, twins, steps[0])
    for frame in range(4):
        torch.testing.assert_close(noise[frame], noise[keyframe], rtol=0, atol=1e-4)


def test_flow_and_features_map_a_frame_to_itself_by_the_identity(moving: InvertedClip) -> None:
    def features(frames: list[int]) -> Tensor:
        return moving.model.features(moving.latents(level(1), frames), level(1), moving.conditioning)

    for correspondence in (flow(moving), FeatureCorrespondence(features)):
        positions, confidence = correspondence.maps(3, 3, 8, 12)
        assert torch.equal(positions, identity(8, 12)[0])
        assert torch.equal(confidence, torch.ones(96))


@pytest.mark.parametrize("levels", ["coarse", "all"])
@pytest.mark.parametrize("window", [11, 4])
def test_keyframes_see_each_other_the_anchors_and_the_keyframe_before(
    window: int, levels: Levels, moving: InvertedClip
) -> None:
    """Every frame a keyframe: what changes in one changes the noise of those that attend to it.

    Of no others, but of those that attend to these at a later layer.
    """
    mode = SDEditMode(moving, settings.SDEdit(strength=1.0), 0)
    start, steps = mode.initial_latents(moving.model.schedule.steps(STEPS))
    predict = tokenflow(moving, mode, guidance(moving), interval=1, window=window, extended=levels)
    before = whole(start)
    noise = prediction_of_all(predict, before, steps[0])
    parts = list(windows(range(11), range(11), window))
    for changed in (0, 2, 5, 10):
        latents = before.clone()
        latents[changed] += 1
        differs = (prediction_of_all(predict, latents, steps[0]) - noise).abs().amax((1, 2, 3)) > 1e-5
        attending, reached = {changed}, {changed}
        for part in parts:
            seen = {*part.keyframes, *part.context}
            attending |= {*part.keyframes} if changed in seen else set()
            reached |= {*part.keyframes} if reached & seen else set()
        assert attending <= set(differs.nonzero().flatten().tolist()) <= reached


def test_with_every_frame_a_keyframe_all_attend_to_all_and_nothing_is_propagated(moving: InvertedClip) -> None:
    mode = pnp(moving)
    nothing_known: Correspondence = IdentityMaps()
    one = sample(moving, mode, tokenflow(moving, mode, guidance(moving), interval=1, window=11))
    other = sample(
        moving,
        mode,
        tokenflow(moving, mode, guidance(moving), interval=1, window=11, correspondence=nothing_known),
    )
    assert torch.equal(one, other)


def test_at_guidance_1_the_negative_prompt_has_no_effect_and_carrying_changes_nothing(moving: InvertedClip) -> None:
    mode = pnp(moving)
    plain = guidance(moving, scale=1.0)
    negative = Guidance(plain.conditional, moving.model.condition("snow"), 1.0)
    results = [
        sample(moving, mode, tokenflow(moving, mode, plain, propagate_guidance=True)),
        sample(moving, mode, tokenflow(moving, mode, plain, propagate_guidance=False)),
        sample(moving, mode, tokenflow(moving, mode, negative)),
    ]
    assert torch.equal(results[0], results[2])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=ROUNDING)


class NothingConfirmed(IdentityMaps):
    """Every token counts as occluded."""

    def maps(self, frame: int, keyframe: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        positions, confidence = identity(height, width)
        return positions, torch.zeros_like(confidence)


def test_tokens_that_no_keyframe_knows_attend_to_their_own_frame(moving: InvertedClip) -> None:
    mode = SDEditMode(moving, settings.SDEdit(strength=1.0), 0)
    start, steps = mode.initial_latents(moving.model.schedule.steps(STEPS))
    guided = guidance(moving)
    lost_in_all = tokenflow(moving, mode, guided, correspondence=NothingConfirmed(), propagate_guidance=False)
    lost = prediction_of_all(lost_in_all, whole(start), steps[0])
    alone = prediction_of_all(PerFrame(EditDenoiser(moving.model, mode, guided), 4), whole(start), steps[0])
    others = sorted(set(range(len(start))) - set(draw_keyframes(len(start), 4, 0, 0)))
    torch.testing.assert_close(lost[others], alone[others], rtol=0, atol=ROUNDING)


class SomeUnconfirmed(IdentityMaps):
    """As many tokens count as occluded as the frame has a number."""

    def maps(self, frame: int, keyframe: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        positions, confidence = identity(height, width)
        confidence[:frame] = 0
        return positions, confidence


@pytest.mark.parametrize("propagate_guidance", [True, False])
def test_lost_tokens_of_frames_that_go_together_are_what_they_are_alone(
    propagate_guidance: bool, moving: InvertedClip
) -> None:
    mode = SDEditMode(moving, settings.SDEdit(strength=1.0), 0)
    start, steps = mode.initial_latents(moving.model.schedule.steps(STEPS))
    noise = []
    for batch_size in (3, 1):
        predict = tokenflow(
            moving,
            mode,
            guidance(moving),
            batch_size=batch_size,
            correspondence=SomeUnconfirmed(),
            propagate_guidance=propagate_guidance,
        )
        noise.append(prediction_of_all(predict, whole(start), steps[0]))
    torch.testing.assert_close(noise[0], noise[1], rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("frames", [1, 2, 7, 11])
def test_every_frame_comes_out_whatever_the_count_divides_by(frames: int, moving: InvertedClip) -> None:
    mode = SDEditMode(moving, settings.SDEdit(strength=1.0), 0)
    start, steps = mode.initial_latents(moving.model.schedule.steps(STEPS))
    predict = tokenflow(moving, mode, guidance(moving), interval=5, shots=(range(frames),))
    groups = list(predict(whole(start)[:frames], steps[0]))
    assert sorted(frame for group, _ in groups for frame in group) == list(range(frames))
    for group, noise in groups:
        assert noise.shape == start[group].shape
        assert noise.isfinite().all()


@pytest.mark.parametrize("propagate_edit_until", [0.0, 1.0])
def test_windows_of_few_keyframes_give_about_what_one_window_gives(
    propagate_edit_until: float, moving: InvertedClip
) -> None:
    mode = pnp(moving)
    options = {"interval": 2, "propagate_edit_until": propagate_edit_until}
    whole = sample(moving, mode, tokenflow(moving, mode, guidance(moving), window=100, **options))
    cut = sample(moving, mode, tokenflow(moving, mode, guidance(moving), window=4, **options))
    alone = sample(moving, mode, PerFrame(EditDenoiser(moving.model, mode, guidance(moving)), 4))
    assert (cut - whole).abs().mean() < (alone - whole).abs().mean()


def test_what_is_kept_of_keyframes_does_not_grow_with_the_clip(
    moving: InvertedClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    mode = SDEditMode(moving, settings.SDEdit(strength=1.0), 0)
    start, steps = mode.initial_latents(moving.model.schedule.steps(STEPS))
    held: list[int] = []
    joined = FeatureBank.merge

    def counted(kept: FeatureBank, other: FeatureBank) -> FeatureBank:
        result = joined(kept, other)
        held.append(len(result.keyframes))
        return result

    monkeypatch.setattr(FeatureBank, "merge", counted)
    prediction_of_all(tokenflow(moving, mode, guidance(moving), interval=1, window=4), whole(start), steps[0])
    # Two anchors, the keyframe before, and the one at work.
    assert max(held) == 4


def test_after_an_edit_and_after_one_that_raised_the_model_is_what_it_was(moving: InvertedClip) -> None:
    unet = moving.model._unet
    before, appearance = dict(unet.attn_processors), repr(unet)
    mode = pnp(moving)
    sample(moving, mode, tokenflow(moving, mode, guidance(moving)))

    class Fails(IdentityMaps):
        def maps(self, frame: int, keyframe: int, height: int, width: int) -> tuple[Tensor, Tensor]:
            raise RuntimeError("no map")

    with pytest.raises(RuntimeError, match="no map"):
        sample(moving, mode, tokenflow(moving, mode, guidance(moving), correspondence=Fails()))
    assert unet.attn_processors == before
    assert repr(unet) == appearance
    assert not any(module._forward_hooks for module in unet.modules())


def test_source_features_are_captured_only_for_keyframes(moving: InvertedClip, monkeypatch: pytest.MonkeyPatch) -> None:
    mode = pnp(moving)
    start, steps = mode.initial_latents(moving.model.schedule.steps(STEPS))
    latents, predict = whole(start), tokenflow(moving, mode, guidance(moving))
    captured: list[Call] = []
    called: list[Call] = []
    capture, residuals = mode.capture, mode.residuals
    monkeypatch.setattr(mode, "capture", lambda call: captured.append(call) or capture(call))
    monkeypatch.setattr(mode, "residuals", lambda call: called.append(call) or residuals(call))
    prediction_of_all(predict, latents, steps[0])
    keyframes = draw_keyframes(len(latents), 4, 0, 0)
    assert [list(call.indices) for call in captured] == [keyframes]
    assert sorted(index for call in called for index in call.indices) == list(range(len(latents)))


@pytest.mark.parametrize("features", ["block", "residual"])
def test_injected_features_are_propagated_to_the_frames_between(features: str, moving: InvertedClip) -> None:
    """Still correspondences and one frame's features for all: every frame gets them as its own."""
    mode = PnPMode(moving, settings.PnP(features=features, attention_until=0.0))
    start, steps = mode.initial_latents(moving.model.schedule.steps(STEPS))
    twins = start[[0]].repeat(4, 1, 1, 1)
    how = {"correspondence": IdentityMaps(), "propagate_guidance": False, "shots": (range(4),)}
    predict = tokenflow(moving, mode, guidance(moving), **how)
    keyframe = draw_keyframes(4, 4, 0, 0)[0]
    noise = prediction_of_all(predict, twins, steps[0])
    without = prediction_of_all(tokenflow(moving, pnp(moving, 0.0, 0.0), guidance(moving), **how), twins, steps[0])
    assert (noise - without).abs().max() > 1e-2
    for frame in range(4):
        torch.testing.assert_close(noise[frame], noise[keyframe], rtol=0, atol=1e-4)
