"""`make levers`: each thing that could make an edit faster or better, alone, beside the edit as it is.

What tokenflow does is varied one thing at a time, on the clips that settings are chosen on. What pays is in
tokenflow; what does not is here alone, so that it can be measured again. docs/speed.md says what came of each.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.clips import TUNING
from benchmarks.sampling import BATCH, GUIDANCE, SEED, STEPS, Inverted, Method, editing, ours, table
from benchmarks.truth import Truth
from tokenflow import propagation
from tokenflow.attention import Features, Site, Strategy
from tokenflow.backbones.base import Backbone, Conditioning
from tokenflow.backbones.loading import load_backbone
from tokenflow.config import PnP as Settings
from tokenflow.denoise import Predict
from tokenflow.keyframes import draw_keyframes
from tokenflow.modes.base import Source
from tokenflow.pipeline.editing import USUAL_INTERVAL
from tokenflow.propagation import Editing, Guidance, PerFrame, TokenFlow
from tokenflow.propagation.extended import View
from tokenflow.rows import Latents
from tokenflow.schedule import Step


class SourceForEveryFrame(Editing):
    """Injected features read in the source of every frame, instead of carried from keyframes."""

    def predict_carried(
        self,
        frames: list[int],
        latents: Tensor,
        step: Step,
        conditioning: Conditioning,
        strategy: Strategy,
        features: Mapping[Features, Tensor],
    ) -> Tensor:
        """The noise, with the frames' own features."""
        source = self.mode._source
        if features:
            own = source.latents(step.timestep, frames)
            features = source.backbone.read(
                own, step.timestep, source.conditioning, attention=False, features=next(iter(features))
            ).features
        return super().predict_carried(frames, latents, step, conditioning, strategy, features)


def source_for_every_frame(source: Source, guidance: Guidance) -> Predict:
    """TokenFlow with it."""
    usual = editing(source, guidance)
    return ours(source, guidance, editing_with=SourceForEveryFrame(usual.backbone, usual.mode, usual.guidance))


def guided_between(source: Source, guidance: Guidance, first: float, last: float) -> Predict:
    """Guidance in an interval of the steps alone (Kynkäänniemi et al., NeurIPS 2024)."""
    guided = ours(source, guidance)
    plain = ours(source, Guidance(guidance.conditional, guidance.conditional, 1.0))
    return lambda latents, step: (guided if first <= step.index / step.count < last else plain)(latents, step)


class SecondOrder:
    """The noise drawn through that of the step before, as a multistep solver does (Adams–Bashforth over log σ)."""

    def __init__(self, source: Source, predict: Predict) -> None:
        self._alpha = source.backbone.schedule.alpha
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

    def __init__(self, source: Source, guidance: Guidance) -> None:
        self._predict = ours(source, guidance)
        self._frames = len(source.frames)
        self._last: dict[int, Tensor] = {}

    def __call__(self, latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        """Frames and their noise."""
        keyframes = draw_keyframes(self._frames, USUAL_INTERVAL, SEED, step.index)
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
    with mock.patch.object(propagation.transport, "_cubic", kernel):
        yield


def bilinear(distance: Tensor) -> Tensor:
    """Of the two tokens around a place."""
    return (1 - distance.abs()).clamp_min(0)


def nearest_token(distance: Tensor) -> Tensor:
    """Of the nearest token alone."""
    return ((distance >= -0.5) & (distance < 0.5)).float()


@contextmanager
def from_the_nearest_keyframe_alone() -> Iterator[None]:
    """No blend of the keyframes before and after."""
    transport = propagation.transport.Transport

    class Unblended(transport):  # type: ignore[misc, valid-type]
        """Weights of 0 and 1."""

        def _closeness(self) -> Tensor:
            before, after = super()._closeness()
            return torch.stack([before >= after, before < after]).float()

    with mock.patch.object(propagation.tokenflow, "Transport", Unblended):
        yield


@contextmanager
def lost_below(confidence: float) -> Iterator[None]:
    """Another confidence below which a token counts as occluded."""
    with mock.patch.object(propagation.transport, "LOST_BELOW", confidence):
        yield


@contextmanager
def showing(shown: View) -> Iterator[None]:
    """Another view of what keyframes see of each other."""
    with mock.patch.object(propagation.tokenflow, "view", return_value=shown):
        yield


def nothing(_site: Site, tokens: Tensor) -> Tensor:
    """Keyframes attend to themselves alone."""
    return tokens[:, :, :0]


def all_but_the_finest(site: Site, tokens: Tensor) -> Tensor:
    """All tokens, not their means, of the levels that means are taken of."""
    return tokens if site.scale > 1 else nothing(site, tokens)


def means_at_every_level(_site: Site, tokens: Tensor) -> Tensor:
    """At the finest too."""
    side = math.isqrt(tokens.shape[2])  # the clips are square
    maps = tokens.flatten(0, 1).transpose(1, 2).unflatten(2, (side, side))
    return F.avg_pool2d(maps, 2).flatten(2).transpose(1, 2).unflatten(0, tokens.shape[:2])


def one_token_in_16(site: Site, tokens: Tensor) -> Tensor:
    """At the finest level a sample of the tokens."""
    side = math.isqrt(tokens.shape[2])
    sample = tokens.unflatten(2, (side, side))[:, :, 2::4, 2::4].flatten(2, 3)
    return sample if site.scale == 1 else means_at_every_level(site, tokens)


@contextmanager
def with_keyframes_one_an_interval() -> Iterator[None]:
    """The first and the last part of the clip as long as the others."""

    def draw(frame_count: int, interval: int, seed: int, step: int) -> list[int]:
        count = -(-frame_count // interval)
        bounds = np.linspace(0, frame_count, count + 1).round().astype(int)
        return np.random.default_rng([seed, step]).integers(bounds[:-1], bounds[1:]).tolist()

    with mock.patch.object(propagation.tokenflow, "draw_keyframes", draw):
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
    "residual injected, not the block": (
        Method(lambda source, guidance: ours(source, guidance, editing_with=with_residual(source, guidance))),
        as_it_is,
    ),
    "carried bilinearly": (Method(), partial(sampled, bilinear)),
    "lost where the way back misses by a latent": (Method(), partial(lost_below, 0.001)),
    "never lost": (Method(), partial(lost_below, 0.0)),
    "carried from the nearest token": (Method(), partial(sampled, nearest_token)),
    "nearest keyframe alone": (Method(), from_the_nearest_keyframe_alone),
    "keyframes see all of each other": (Method(partial(ours, extent="full")), as_it_is),
    "keyframes see all but the finest level": (Method(), partial(showing, all_but_the_finest)),
    "keyframes see means at the finest level too": (Method(), partial(showing, means_at_every_level)),
    "keyframes see one token in 16 at the finest level": (Method(), partial(showing, one_token_in_16)),
    "keyframes see nothing of each other": (Method(), partial(showing, nothing)),
    "the first and last part of a clip not halved": (Method(), with_keyframes_one_an_interval),
    "the same keyframes at each step": (Method(), with_keyframes_of_the_first_step),
    "a keyframe in 2 frames": (Method(partial(ours, interval=2)), as_it_is),
    "a keyframe in 6 frames": (Method(partial(ours, interval=6)), as_it_is),
    "a keyframe in 8 frames": (Method(partial(ours, interval=8)), as_it_is),
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


def with_residual(source: Source, guidance: Guidance) -> Editing:
    """Plug-and-Play with what the block adds to its shortcut."""
    return editing(source, guidance, Settings(features="residual"))


def measure(backbone: Backbone, names: Iterable[str]) -> list[dict[str, object]]:
    """A row a lever: network calls a frame, in plain UNet calls; and means of the figures over the clips."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        clips = [Inverted(backbone, case.truth, Path(folder) / case.name) for case in TUNING]
        for name in names:
            method, changed = LEVERS[name]
            with changed():  # type: ignore[attr-defined]
                sampled = [clip.sample_counted(method) for clip in clips]
            pictures = [clip.decoded(latents) for clip, (latents, _) in zip(clips, sampled, strict=True)]
            figures = [_figures(clip.truth, each) for clip, each in zip(clips, pictures, strict=True)]
            calls = sum(each for _, each in sampled) / len(clips) * method.steps
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
    rows = measure(load_backbone(arguments.model), arguments.levers)
    content = {"torch": torch.__version__, "steps": STEPS, "guidance_scale": GUIDANCE, "rows": rows}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(content, indent=1) + "\n")
    print(table(rows))


if __name__ == "__main__":
    main()
