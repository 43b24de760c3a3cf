"""`make levers`: each change that could make an edit faster or better, on its own, beside the edit as it is.

One thing is varied at a time, on the clips that settings are tuned on. What paid off is in tokenflow; what did not is
only here, so that it can be measured again. docs/speed.md discusses the results.
"""

import argparse
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.clips import TUNING
from benchmarks.output import rows_table, write_json
from benchmarks.sampling import (
    BATCH,
    DTYPE,
    GUIDANCE,
    SEED,
    STEPS,
    Inverted,
    Method,
    build_tokenflow,
    pnp_denoiser,
    start_from_inversion,
)
from benchmarks.truth import Truth
from tokenflow.config import Edit, PnP
from tokenflow.correspondence.features import FeatureCorrespondence
from tokenflow.correspondence.flow import FlowCorrespondence
from tokenflow.correspondence.pairwise import Pairwise
from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.guidance import Guidance
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.sampling import Predict
from tokenflow.diffusion.schedules import Step
from tokenflow.models.attention import AttentionCall, AttentionOverride, per_frame_attention, project_qkv
from tokenflow.models.injection import Injection
from tokenflow.models.loading import load_model
from tokenflow.models.model import Model
from tokenflow.models.unet import UNetAttention
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.wiring import DEFAULT_INTERVAL, source_features
from tokenflow.propagation import EditDenoiser, PerFrame
from tokenflow.propagation.feature_bank import FeatureBank
from tokenflow.propagation.keyframes import draw_keyframes
from tokenflow.propagation.warp import Warp, WarpOptions

FIGURES = "perfect_psnr", "perfect_psnr_inside", "preservation_psnr", "detail", "warp_error_e3", "warp_error_away_e3"


@dataclass(frozen=True)
class SourceForEveryFrame(EditDenoiser):
    """Injected features captured from the source of every frame, instead of propagated from keyframes."""

    source: InvertedClip

    def predict_propagated(
        self,
        indices: Sequence[int],
        latents: Tensor,
        step: Step,
        conditioning: Conditioning,
        attention: AttentionOverride,
        features: Mapping[str, Tensor],
    ) -> Tensor:
        """The prediction, with the frames' own features."""
        own = self.source.latents(step.at, indices)
        captured = self.model.capture(own, step.at, self.source.conditioning, features.keys())
        return super().predict_propagated(indices, latents, step, conditioning, attention, captured.features)


def source_for_every_frame(source: InvertedClip, guidance: Guidance) -> Predict:
    """TokenFlow with it."""
    usual = pnp_denoiser(source, guidance)
    denoiser = SourceForEveryFrame(usual.model, usual.mode, usual.guidance, source)
    return build_tokenflow(source, guidance, denoiser=denoiser)


def per_frame(source: InvertedClip, guidance: Guidance) -> Predict:
    """Every frame by itself."""
    return PerFrame(pnp_denoiser(source, guidance), BATCH)


def with_residual(source: InvertedClip, guidance: Guidance) -> Predict:
    """Plug-and-Play with what the block adds to its shortcut."""
    return build_tokenflow(source, guidance, denoiser=pnp_denoiser(source, guidance, PnP(features="residual")))


def guided_between(source: InvertedClip, guidance: Guidance, first: float, last: float) -> Predict:
    """Guidance in an interval of the steps only (Kynkäänniemi et al., NeurIPS 2024)."""
    guided = build_tokenflow(source, guidance)
    plain = build_tokenflow(source, Guidance(guidance.conditional, None, 1.0))
    return lambda latents, step: (guided if first <= step.index / step.count < last else plain)(latents, step)


class SecondOrder:
    """Predictions extrapolated through those of the step before, as a multistep solver does (Adams–Bashforth)."""

    def __init__(self, source: InvertedClip, predict: Predict) -> None:
        self._coordinate = source.model.schedule.parametrisation.coordinate
        self._predict = predict
        self._before: tuple[float, dict[int, Tensor]] | None = None

    def __call__(self, latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        """Frame indices, and the prediction that the step is to take."""
        now, following = self._coordinate(step.at), self._coordinate(step.to)
        current: dict[int, Tensor] = {}
        for indices, prediction in self._predict(latents, step):
            current.update(zip(indices, prediction, strict=True))
            if self._before:
                earlier, before = self._before
                older = torch.stack([before[index] for index in indices])
                prediction = prediction + (prediction - older) * (following - now) / (2 * (now - earlier))
            yield indices, prediction
        self._before = now, current


def second_order(source: InvertedClip, guidance: Guidance) -> Predict:
    """TokenFlow with it."""
    return SecondOrder(source, build_tokenflow(source, guidance))


class PredictionsReused:
    """Every second step takes the predictions of the step before for all frames but the keyframes."""

    def __init__(self, source: InvertedClip, guidance: Guidance) -> None:
        self._predict = build_tokenflow(source, guidance)
        self._last: dict[int, Tensor] = {}

    def __call__(self, latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        """Frame indices and their predictions."""
        groups = iter(self._predict(latents, step))
        if step.index % 2 == 0:
            for indices, prediction in groups:
                self._last.update(zip(indices, prediction, strict=True))
                yield indices, prediction
            return
        keyframes, prediction = next(groups)  # the clips are short enough for one window
        yield keyframes, prediction
        others = [index for index in range(len(latents)) if index not in keyframes]
        yield others, torch.stack([self._last[index] for index in others])


def bilinear(distance: Tensor) -> Tensor:
    """Weight of a tap at a distance in tokens: of the two tokens around a position."""
    return (1 - distance.abs()).clamp_min(0)


def nearest_token(distance: Tensor) -> Tensor:
    """Weight of a tap at a distance in tokens: of the nearest token alone."""
    return ((distance >= -0.5) & (distance < 0.5)).float()


def nearest_keyframe(closeness: Tensor) -> Tensor:
    """Weights 2 f of the two keyframes: all for the nearer one, unless only the other one shows a place.

    The farther keyframe gets next to nothing; not nothing, since it may be all there is.
    """
    before, after = closeness
    return torch.stack([before >= after, before < after]).float().clamp(0.001, 0.999)


class DirectFlow(FlowCorrespondence):
    """Flow estimated between the two frames themselves, instead of chained from neighbour to neighbour."""

    def find(self, first: int, second: int) -> np.ndarray:
        """The fields there and back."""
        there, back = self.find_step(first, second).astype(np.float32)
        return np.stack([self.reduce(there, back), self.reduce(back, there)])


class ExactFlow(Pairwise):
    """The motion that a clip was drawn with, and what is truly occluded: how much a better flow could give.

    Args:
        truth: the clip.
        height, width: the finest token grid.
    """

    def __init__(self, truth: Truth, height: int, width: int) -> None:
        super().__init__()
        self._clip = truth.clip
        self._size = width, height

    def find(self, first: int, second: int) -> np.ndarray:
        """The fields there and back."""
        return np.stack([self._exact(first, second), self._exact(second, first)])

    def _exact(self, frame: int, other: int) -> np.ndarray:
        motion, seen = self._clip.flow(frame, other), ~self._clip.occluded(frame, other)
        height, width = seen.shape
        field = np.dstack([motion / np.array([width, height], np.float32), seen]).astype(np.float32)
        return cv2.resize(field, self._size, interpolation=cv2.INTER_AREA).astype(np.float16)


def latents_size(source: InvertedClip) -> tuple[int, int]:
    """Height and width of a clip's latents."""
    height, width = source.latents(source.model.schedule.clean, [0]).shape[-2:]
    return height, width


def with_exact_flow(source: InvertedClip, guidance: Guidance) -> Predict:
    """TokenFlow along the motion of the tuning clip with the source's prompt."""
    truth = next(case.truth for case in TUNING if case.truth.prompts[0] == source.prompt)
    return build_tokenflow(source, guidance, correspondence=ExactFlow(truth, *latents_size(source)))


def with_direct_flow(source: InvertedClip, guidance: Guidance) -> Predict:
    """TokenFlow along flow that is not chained."""
    flow = DirectFlow(source.frames, *latents_size(source))
    return build_tokenflow(source, guidance, correspondence=flow)


def with_smoothness(source: InvertedClip, guidance: Guidance, weight: float) -> Predict:
    """TokenFlow along flow of another smoothness."""
    flow = FlowCorrespondence(source.frames, *latents_size(source), smoothness=weight)
    return build_tokenflow(source, guidance, correspondence=flow)


def with_matching(source: InvertedClip, guidance: Guidance, **options: float) -> Predict:
    """TokenFlow with matched features; options are those of `FeatureCorrespondence`."""
    matching = FeatureCorrespondence(source_features(source), **options)
    return build_tokenflow(source, guidance, correspondence=matching)


def attention_to_means(
    injection: Injection, frames: int, _context: FeatureBank, extended: Collection[str], outputs: dict, *_: object
) -> AttentionOverride:
    """Keyframes attend to their own tokens, and to means of 2 × 2 tokens of the others, each counting four times."""
    alone = per_frame_attention(injection)

    def attend(call: AttentionCall) -> Tensor:
        if call.site.name in extended and isinstance(call, UNetAttention):
            queries, *parts = project_qkv(call, injection)  # (b k) n c each
            keys, values = (_own_and_means_of_others(part.unflatten(0, (-1, frames))) for part in parts)
            output = _attend_to_means(call, queries, keys, values)
        else:
            output = alone(call)
        outputs[call.site.name] = output.unflatten(0, (-1, frames))
        return output

    return attend


def _own_and_means_of_others(tokens: Tensor) -> Tensor:
    """Of tokens b k n c: (b k) n + (k − 1) n / 4 c. The clips are square."""
    (branches, frames, *_), side = tokens.shape, math.isqrt(tokens.shape[2])
    maps = tokens.flatten(0, 1).transpose(1, 2).unflatten(2, (side, side))  # (b k) c h w
    means = F.avg_pool2d(maps, 2).flatten(2).transpose(1, 2).unflatten(0, (branches, frames))  # b k n/4 c
    others = [means[:, [other for other in range(frames) if other != frame]].flatten(1, 2) for frame in range(frames)]
    return torch.cat([tokens, torch.stack(others, 1)], 2).flatten(0, 1)


def _attend_to_means(call: UNetAttention, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention in which all keys but as many as there are queries count four times: (b k) n c."""
    counts = torch.ones(keys.shape[1], device=keys.device)
    counts[queries.shape[1] :] = 4
    q, k, v = (call.split_heads(part) for part in (queries, keys, values))
    return call.project_out(F.scaled_dot_product_attention(q, k, v, attn_mask=counts.log()[None, None, None]))


def draw_with_ends_halved(frame_count: int, step: int) -> list[int]:
    """Keyframes from intervals of which the first and last are half as long: fewer frames lie outside all keyframes."""
    count = -(-frame_count // DEFAULT_INTERVAL)
    bounds = np.clip(np.arange(count + 2) - 0.5, 0, count) / count * frame_count
    bounds = bounds.round().astype(int)
    return np.random.default_rng([SEED, step]).integers(bounds[:-1], bounds[1:]).tolist()


def draw_once(frame_count: int, _step: int) -> list[int]:
    """The same keyframes at every step."""
    return draw_keyframes(frame_count, DEFAULT_INTERVAL, SEED, 0)


def is_every_second_step(step: Step) -> bool:
    """Every second step, the last excluded."""
    return (step.count - step.index) % 2 == 0


def start_along_flow(source: InvertedClip, steps: Sequence[Step]) -> Latents:
    """Every frame starts from the noise of the nearest keyframe, token by token at corresponding places.

    Has no effect where the whole edit is propagated: that leads every frame along its own inversion.
    """
    frames = list(range(source.frame_count))
    inverted = start_from_inversion(source, steps)[frames]
    keyframes = draw_keyframes(len(frames), DEFAULT_INTERVAL, SEED, 0)
    size = latents_size(source)
    flow = FlowCorrespondence(source.frames, *size)
    options = WarpOptions(kernel=nearest_token, blend=nearest_keyframe)  # a weighted mean of noise has less variance
    warp = Warp(frames, keyframes, flow, {size}, inverted.device, options)
    return warp.warp_maps(inverted[keyframes])


def with_settings(**values: object) -> Method:
    """TokenFlow with other settings of the edit."""
    return Method(partial(build_tokenflow, settings=Edit(prompt="", **values)))


def with_options(**options: object) -> Method:
    """TokenFlow with other fields of `Propagation`."""
    return Method(partial(build_tokenflow, **options))


def with_warp(**options: object) -> Method:
    """TokenFlow with other `WarpOptions`."""
    return with_options(warp=WarpOptions(**options))


UNCHANGED = "the defaults"
LEVERS: dict[str, Method] = {
    "per frame": Method(per_frame),
    UNCHANGED: Method(),
    "the whole edit never propagated": with_settings(propagate_edit_until=0.0),
    "the whole edit propagated for half of the steps": with_settings(propagate_edit_until=0.5),
    "the whole edit propagated at every step": with_settings(propagate_edit_until=1.0),
    "the whole edit propagated at every second step": with_options(is_edit_propagated=is_every_second_step),
    "source captured for every frame": Method(source_for_every_frame),
    "guidance for every frame": with_settings(guidance="per_frame"),
    "guidance for every frame, the whole edit never propagated": with_settings(
        guidance="per_frame", propagate_edit_until=0.0
    ),
    "residual injected instead of the block": Method(with_residual),
    "propagated bilinearly": with_warp(kernel=bilinear),
    "flow estimated directly, not chained": Method(with_direct_flow),
    "flow half as smooth": Method(partial(with_smoothness, weight=20)),
    "flow twice as smooth": Method(partial(with_smoothness, weight=80)),
    "exact flow, unknown to any edit": Method(with_exact_flow),
    "matched features instead of flow": Method(with_matching),
    "matched features, of single tokens": Method(partial(with_matching, neighbourhood=1)),
    "matched features, regardless of distance": Method(partial(with_matching, distance_cost=0.0)),
    "occluded where the way back misses by a quarter of a latent": with_warp(occluded_below=0.2),
    "occluded where the way back misses by a latent": with_warp(occluded_below=0.001),
    "never occluded": with_warp(occluded_below=0.0),
    "propagated from the nearest token": with_warp(kernel=nearest_token),
    "nearest keyframe only": with_warp(blend=nearest_keyframe),
    "keyframes see each other at the finest level too": with_settings(extended_attention="all"),
    "keyframes see means of each other's tokens": with_options(extended_attention=attention_to_means),
    "keyframes do not see each other": with_options(extended=frozenset()),
    "the first and last part of a clip halved": with_options(draw_keyframes=draw_with_ends_halved),
    "noise of the inversion along the flow, the whole edit never propagated": Method(
        partial(build_tokenflow, settings=Edit(prompt="", propagate_edit_until=0.0)), start=start_along_flow
    ),
    "the same keyframes at each step": with_options(draw_keyframes=draw_once),
    "1 keyframe per 2 frames": with_settings(keyframe_interval=2),
    "1 keyframe per 6 frames": with_settings(keyframe_interval=6),
    "1 keyframe per 12 frames": with_settings(keyframe_interval=12),
    "guidance in the middle 60 % of steps": Method(partial(guided_between, first=0.2, last=0.8)),
    "guidance in the first 60 % of steps": Method(partial(guided_between, first=0.0, last=0.6)),
    "predictions of frames reused every 2nd step": Method(PredictionsReused),
    "15 steps": Method(steps=15),
    "10 steps": Method(steps=10),
    "8 steps": Method(steps=8),
    "10 steps, second order": Method(second_order, 10),
    "6 steps": Method(steps=6),
}


def measure(model: Model, names: Iterable[str]) -> list[dict[str, object]]:
    """A row per lever: plain UNet calls per frame of a whole edit, and means of the figures over the clips."""
    rows: list[dict[str, object]] = []
    clips = [Inverted(model, case.truth) for case in TUNING]
    for name in names:
        method = LEVERS[name]
        edits = [clip.sample_counted(method) for clip in clips]
        images = [clip.decoded(latents) for clip, (latents, _) in zip(clips, edits, strict=True)]
        figures = [_figures(clip.truth, each) for clip, each in zip(clips, images, strict=True)]
        calls = sum(each for _, each in edits) / len(clips) * method.steps
        means = {}
        for key in FIGURES:
            values = [value for each in figures if (value := each[key]) is not None]
            means[key] = sum(values) / len(values)
        rows.append({"lever": name, "calls_per_frame": calls, **means})
        print(rows_table(rows[-1:]).splitlines()[-1], flush=True)
    return rows


def _figures(truth: Truth, images: np.ndarray) -> dict[str, float | None]:
    return {**truth.figures(images), **truth.figures_by_place(images)}


def main() -> None:
    """Measure, print a table, and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="data/models/mini-sd")
    parser.add_argument("--levers", nargs="*", default=list(LEVERS), choices=list(LEVERS), metavar="NAME")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/levers.json"))
    arguments = parser.parse_args()
    rows = measure(load_model(arguments.model, dtype=DTYPE), arguments.levers)
    content = {"torch": torch.__version__, "steps": STEPS, "guidance_scale": GUIDANCE, "rows": rows}
    write_json(arguments.out, content)
    print(rows_table(rows))


if __name__ == "__main__":
    main()
