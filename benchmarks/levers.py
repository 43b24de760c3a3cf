"""`make levers`: each thing that could make an edit faster or better, alone, beside the edit as it is.

What tokenflow does is varied one thing at a time, on the clips that settings are chosen on. What pays is in
tokenflow; what does not is here alone, so that it can be measured again. docs/speed.md says what came of each.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import sampling
from benchmarks.clips import TUNING
from benchmarks.sampling import BATCH, DTYPE, GUIDANCE, SEED, STEPS, Inverted, Method, editing, ours, table
from benchmarks.truth import Truth
from tokenflow import propagation
from tokenflow.config import PnP as Settings
from tokenflow.correspondence import features, flow
from tokenflow.correspondence.flow import FlowCorrespondence
from tokenflow.diffusion.latents import Frames, Latents
from tokenflow.diffusion.sampling import Predict
from tokenflow.diffusion.schedules import Step
from tokenflow.models.attention import (
    AttentionOverride,
    Features,
    Injection,
    SelfAttention,
    Site,
    per_frame_attention,
    project,
)
from tokenflow.models.loading import load_model
from tokenflow.models.model import Conditioning, Model
from tokenflow.modes.mode import InvertedClip
from tokenflow.modes.pnp import PnP
from tokenflow.pipeline.editing import DEFAULT_INTERVAL, matched_features
from tokenflow.propagation import EditDenoiser, Guidance, PerFrame, TokenFlow
from tokenflow.propagation.feature_bank import FeatureBank
from tokenflow.propagation.keyframes import draw_keyframes


class SourceForEveryFrame(EditDenoiser):
    """Injected features read in the source of every frame, instead of carried from keyframes."""

    def predict_carried(
        self,
        frames: list[int],
        latents: Tensor,
        step: Step,
        conditioning: Conditioning,
        strategy: AttentionOverride,
        features: Mapping[Features, Tensor],
    ) -> Tensor:
        """The noise, with the frames' own features."""
        source = self.mode._source
        if features:
            own = source.latents(step.timestep, frames)
            features = source.model.read(
                own, step.timestep, source.conditioning, attention=False, features=next(iter(features))
            ).features
        return super().predict_carried(frames, latents, step, conditioning, strategy, features)


def source_for_every_frame(source: InvertedClip, guidance: Guidance) -> Predict:
    """TokenFlow with it."""
    usual = editing(source, guidance)
    return ours(source, guidance, editing_with=SourceForEveryFrame(usual.model, usual.mode, usual.guidance))


def guided_between(source: InvertedClip, guidance: Guidance, first: float, last: float) -> Predict:
    """Guidance in an interval of the steps alone (Kynkäänniemi et al., NeurIPS 2024)."""
    guided = ours(source, guidance)
    plain = ours(source, Guidance(guidance.conditional, guidance.conditional, 1.0))
    return lambda latents, step: (guided if first <= step.index / step.count < last else plain)(latents, step)


class SecondOrder:
    """The noise drawn through that of the step before, as a multistep solver does (Adams–Bashforth over log σ)."""

    def __init__(self, source: InvertedClip, predict: Predict) -> None:
        self._alpha = source.model.schedule.alpha
        self._predict = predict
        self._before: tuple[float, dict[int, Tensor]] | None = None

    def __call__(self, latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        """Frames, and the noise that the step is to take."""
        now, following = (self._level(timestep) for timestep in (step.timestep, step.next_timestep))
        current: dict[int, Tensor] = {}
        for frames, noise in self._predict(latents, step):
            current.update(zip(frames, noise, strict=True))
            if self._before:
                level, before = self._before
                older = torch.stack([before[frame] for frame in frames])
                noise = noise + (noise - older) * (following - now) / (2 * (now - level))
            yield frames, noise
        self._before = now, current

    def _level(self, timestep: int) -> float:
        alpha = self._alpha(timestep)
        return 0.5 * float(torch.log(torch.tensor((1 - alpha) / alpha)))


class NoiseReused:
    """Every second step takes the noise of the step before for all frames but the keyframes."""

    def __init__(self, source: InvertedClip, guidance: Guidance) -> None:
        self._predict = ours(source, guidance)
        self._frames = len(source.frames)
        self._last: dict[int, Tensor] = {}

    def __call__(self, latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        """Frames and their noise."""
        keyframes = draw_keyframes(self._frames, DEFAULT_INTERVAL, SEED, step.index)
        others = [frame for frame in range(self._frames) if frame not in keyframes]
        groups = iter(self._predict(latents, step))
        if step.index % 2 == 0 or not self._last:
            for frames, noise in groups:
                self._last.update(zip(frames, noise, strict=True))
                yield frames, noise
            return
        yield next(groups)
        yield others, torch.stack([self._last[frame] for frame in others])


@contextmanager
def sampled(kernel: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """What is carried, sampled in another way: the share of a token at a distance (in tokens)."""
    with mock.patch.object(propagation.warp, "_cubic", kernel):
        yield


def bilinear(distance: Tensor) -> Tensor:
    """Of the two tokens around a place."""
    return (1 - distance.abs()).clamp_min(0)


def nearest_token(distance: Tensor) -> Tensor:
    """Of the nearest token alone."""
    return ((distance >= -0.5) & (distance < 0.5)).float()


@contextmanager
def from_the_nearest_keyframe_alone() -> Iterator[None]:
    """No blend of the keyframes before and after, but where the nearer one does not show a place."""
    warp = propagation.warp.Warp

    class Unblended(warp):  # type: ignore[misc, valid-type]
        """The farther keyframe counts for next to nothing; not for nothing, since it may be all there is."""

        def _closeness(self) -> Tensor:
            before, after = super()._closeness()
            return torch.stack([before >= after, before < after]).float().clamp(0.001, 0.999)

    with mock.patch.object(propagation.tokenflow, "Warp", Unblended):
        yield


class FlowAtOnce(FlowCorrespondence):
    """Flow looked for between the two frames themselves, instead of followed from neighbour to neighbour."""

    def _find(self, first: int, second: int) -> np.ndarray:
        flows = self._find_step(first, second).astype(np.float32)
        return np.stack([self._reduce(*flows), self._reduce(*reversed(flows))])


class ExactFlow(FlowCorrespondence):
    """The motion that the clip was drawn with, and what is truly occluded: how much a better flow could give."""

    def __init__(self, frames: Frames, height: int, width: int, folder: Path | None = None) -> None:
        super().__init__(frames, height, width, folder)
        pictures = frames[list(range(len(frames)))]
        self._clip = next(case.truth.clip for case in TUNING if np.array_equal(case.truth.frames, pictures))

    def _find(self, first: int, second: int) -> np.ndarray:
        return np.stack([self._exact(first, second), self._exact(second, first)])

    def _exact(self, frame: int, other: int) -> np.ndarray:
        motion, seen = self._clip.flow(frame, other), ~self._clip.occluded(frame, other)
        height, width = seen.shape
        field = np.dstack([motion / np.array([width, height], np.float32), seen]).astype(np.float32)
        return cv2.resize(field, self._grid[::-1], interpolation=cv2.INTER_AREA).astype(np.float16)


@contextmanager
def with_flow(kind: type[FlowCorrespondence]) -> Iterator[None]:
    """Another way to find flow."""
    with mock.patch.object(sampling, "FlowCorrespondence", kind):
        yield


@contextmanager
def with_smoothness(weight: float) -> Iterator[None]:
    """Another weight of smoothness in the refinement of flow."""
    with mock.patch.object(flow, "SMOOTHNESS", weight):
        yield


def matched(source: InvertedClip, guidance: Guidance) -> Predict:
    """Places found by matching features."""
    return ours(source, guidance, correspondence=matched_features(source, STEPS))


@contextmanager
def with_matching(**constants: float) -> Iterator[None]:
    """Another way to match features."""
    with mock.patch.multiple(features, **constants):
        yield


@contextmanager
def lost_below(confidence: float) -> Iterator[None]:
    """Another confidence below which a token counts as occluded."""
    with mock.patch.object(propagation.warp, "OCCLUDED_BELOW", confidence):
        yield


@contextmanager
def with_means_of_others() -> Iterator[None]:
    """Where keyframes see each other's tokens, they see means of two by two, which count four times."""

    def extended_attention(
        injection: Injection, frames: int, _: FeatureBank, extended: Collection[str], outputs: dict, *__: object
    ) -> AttentionOverride:
        alone = per_frame_attention(injection)

        def attend(site: Site, layer: SelfAttention, tokens: Tensor) -> Tensor:
            if site.name in extended:
                queries, *parts = project(site, layer, tokens, injection)
                keys, values = (_own_and_means_of_others(part.unflatten(0, (-1, frames))) for part in parts)
                output = _attend_to_means(layer, queries, keys, values)
            else:
                output = alone(site, layer, tokens)
            outputs[site.name] = output.unflatten(0, (-1, frames))
            return output

        return attend

    with mock.patch.object(propagation.tokenflow, "extended_attention", extended_attention):
        yield


def _own_and_means_of_others(tokens: Tensor) -> Tensor:
    """Of tokens b k n c: (b k) n + (k − 1) n / 4 c. The clips are square."""
    (branches, frames, *_), side = tokens.shape, math.isqrt(tokens.shape[2])
    maps = tokens.flatten(0, 1).transpose(1, 2).unflatten(2, (side, side))
    means = F.avg_pool2d(maps, 2).flatten(2).transpose(1, 2).unflatten(0, (branches, frames))
    others = [means[:, [other for other in range(frames) if other != frame]].flatten(1, 2) for frame in range(frames)]
    return torch.cat([tokens, torch.stack(others, 1)], 2).flatten(0, 1)


def _attend_to_means(layer: SelfAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    own, heads = queries.shape[1], layer._layer.heads
    counts = torch.ones(keys.shape[1], device=keys.device)
    counts[own:] = 4
    split = [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (queries, keys, values)]
    attended = F.scaled_dot_product_attention(*split, attn_mask=counts.log()[None, None, None])
    return layer._layer.to_out[0](attended.transpose(1, 2).flatten(2))


@contextmanager
def with_keyframes_for_themselves() -> Iterator[None]:
    """No keyframe sees another."""
    with mock.patch.object(propagation.tokenflow, "extended_sites", return_value=frozenset()):
        yield


@contextmanager
def with_the_ends_halved() -> Iterator[None]:
    """The first and the last part of the clip half as long, so that fewer frames lie outside of all keyframes."""

    def draw(frame_count: int, interval: int, seed: int, step: int) -> list[int]:
        count = -(-frame_count // interval)
        bounds = np.clip(np.arange(count + 2) - 0.5, 0, count) / count * frame_count
        bounds = bounds.round().astype(int)
        return np.random.default_rng([seed, step]).integers(bounds[:-1], bounds[1:]).tolist()

    with mock.patch.object(propagation.tokenflow, "draw_keyframes", draw):
        yield


@contextmanager
def with_noise_along_the_flow() -> Iterator[None]:
    """Every frame starts from the noise of the nearest keyframe, token by token at corresponding places.

    Not where the whole edit is carried: that leads every frame along its own inversion.
    """
    start = PnP.initial_latents

    def along(mode: PnP, steps: Sequence[Step]) -> tuple[Latents, Sequence[Step]]:
        latents, taken = start(mode, steps)
        frames = list(range(len(latents)))
        inverted = latents[frames]
        keyframes = draw_keyframes(len(frames), DEFAULT_INTERVAL, SEED, 0)
        size = inverted.shape[-2], inverted.shape[-1]
        correspondence = FlowCorrespondence(mode._source.frames, *size)
        with sampled(nearest_token), from_the_nearest_keyframe_alone():  # a blend of noise is no noise
            warp = propagation.tokenflow.Warp(frames, keyframes, correspondence, {size}, inverted.device)
        return warp.warp_maps(inverted[keyframes]), taken

    with mock.patch.object(PnP, "start", along):
        yield


@contextmanager
def with_keyframes_of_the_first_step() -> Iterator[None]:
    """The same keyframes at every step."""

    def draw(frame_count: int, interval: int, seed: int, _step: int) -> list[int]:
        return draw_keyframes(frame_count, interval, seed, 0)

    with mock.patch.object(propagation.tokenflow, "draw_keyframes", draw):
        yield


@contextmanager
def carrying_at_every_second_step() -> Iterator[None]:
    """The whole edit carried at every second step, the last not among them, instead of at the first steps."""

    def is_carried(_self: TokenFlow, step: Step) -> bool:
        return (step.count - step.index) % 2 == 0

    with mock.patch.object(TokenFlow, "_is_carried", is_carried):
        yield


@contextmanager
def as_it_is() -> Iterator[None]:
    """Nothing changed."""
    yield


Lever = tuple[Method, Callable[[], object]]

LEVERS: dict[str, Lever] = {
    "per frame": (Method(lambda source, guidance: PerFrame(editing(source, guidance), BATCH)), as_it_is),
    "as it is": (Method(), as_it_is),
    "the edit never carried whole": (Method(partial(ours, carried_until=0.0)), as_it_is),
    "the edit carried whole for half of the steps": (Method(partial(ours, carried_until=0.5)), as_it_is),
    "the edit carried whole at every step": (Method(partial(ours, carried_until=1.0)), as_it_is),
    "the edit carried whole at every second step": (Method(), carrying_at_every_second_step),
    "source read for every frame": (Method(source_for_every_frame), as_it_is),
    "guidance for every frame": (Method(partial(ours, carry_guidance=False)), as_it_is),
    "guidance for every frame, the edit never carried whole": (
        Method(partial(ours, carry_guidance=False, carried_until=0.0)),
        as_it_is,
    ),
    "residual injected, not the block": (
        Method(lambda source, guidance: ours(source, guidance, editing_with=with_residual(source, guidance))),
        as_it_is,
    ),
    "carried bilinearly": (Method(), partial(sampled, bilinear)),
    "flow looked for at once, not along the frames between": (Method(), partial(with_flow, FlowAtOnce)),
    "flow half as smooth": (Method(), partial(with_smoothness, 20)),
    "flow twice as smooth": (Method(), partial(with_smoothness, 80)),
    "exact flow, which no edit knows": (Method(), partial(with_flow, ExactFlow)),
    "matched features instead of flow": (Method(matched), as_it_is),
    "matched features, of single tokens": (Method(matched), partial(with_matching, AROUND=1)),
    "matched features, however far away": (Method(matched), partial(with_matching, DISTANCE=0.0)),
    "lost where the way back misses by a quarter of a latent": (Method(), partial(lost_below, 0.2)),
    "lost where the way back misses by a latent": (Method(), partial(lost_below, 0.001)),
    "never lost": (Method(), partial(lost_below, 0.0)),
    "carried from the nearest token": (Method(), partial(sampled, nearest_token)),
    "nearest keyframe alone": (Method(), from_the_nearest_keyframe_alone),
    "keyframes see each other at the finest level too": (Method(partial(ours, extended="all")), as_it_is),
    "keyframes see means of each other's tokens": (Method(), with_means_of_others),
    "keyframes see nothing of each other": (Method(), with_keyframes_for_themselves),
    "the first and last part of a clip halved": (Method(), with_the_ends_halved),
    "noise of the inversion along the flow, the edit never carried whole": (
        Method(partial(ours, carried_until=0.0)),
        with_noise_along_the_flow,
    ),
    "the same keyframes at each step": (Method(), with_keyframes_of_the_first_step),
    "a keyframe in 2 frames": (Method(partial(ours, interval=2)), as_it_is),
    "a keyframe in 6 frames": (Method(partial(ours, interval=6)), as_it_is),
    "a keyframe in 12 frames": (Method(partial(ours, interval=12)), as_it_is),
    "guidance in the middle 60 % of steps": (Method(partial(guided_between, first=0.2, last=0.8)), as_it_is),
    "guidance in the first 60 % of steps": (Method(partial(guided_between, first=0.0, last=0.6)), as_it_is),
    "noise of frames reused every 2nd step": (Method(NoiseReused), as_it_is),
    "15 steps": (Method(steps=15), as_it_is),
    "10 steps": (Method(steps=10), as_it_is),
    "8 steps": (Method(steps=8), as_it_is),
    "10 steps, second order": (
        Method(lambda source, guidance: SecondOrder(source, ours(source, guidance)), 10),
        as_it_is,
    ),
    "6 steps": (Method(steps=6), as_it_is),
}
FIGURES = "perfect_psnr", "perfect_psnr_inside", "preservation_psnr", "detail", "warp_error_e3", "warp_error_away_e3"


def with_residual(source: InvertedClip, guidance: Guidance) -> EditDenoiser:
    """Plug-and-Play with what the block adds to its shortcut."""
    return editing(source, guidance, Settings(features="residual"))


def measure(model: Model, names: Iterable[str]) -> list[dict[str, object]]:
    """A row a lever: network calls a frame, in plain UNet calls; and means of the figures over the clips."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        clips = [Inverted(model, case.truth, Path(folder) / case.name) for case in TUNING]
        for name in names:
            method, changed = LEVERS[name]
            with changed():  # type: ignore[attr-defined]
                edits = [clip.sample_counted(method) for clip in clips]
            pictures = [clip.decoded(latents) for clip, (latents, _) in zip(clips, edits, strict=True)]
            figures = [_figures(clip.truth, each) for clip, each in zip(clips, pictures, strict=True)]
            calls = sum(each for _, each in edits) / len(clips) * method.steps
            means = {}
            for key in FIGURES:
                values = [value for each in figures if (value := each[key]) is not None]
                means[key] = sum(values) / len(values)
            rows.append({"lever": name, "calls_a_frame": calls, **means})
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def _figures(truth: Truth, pictures: np.ndarray) -> dict[str, float | None]:
    return {**truth.figures(pictures), **truth.figures_by_place(pictures)}


def main() -> None:
    """Measures, prints a table, and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="data/models/mini-sd")
    parser.add_argument("--levers", nargs="*", default=list(LEVERS), choices=list(LEVERS))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/levers.json"))
    arguments = parser.parse_args()
    rows = measure(load_model(arguments.model, dtype=DTYPE), arguments.levers)
    content = {"torch": torch.__version__, "steps": STEPS, "guidance_scale": GUIDANCE, "rows": rows}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(content, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
