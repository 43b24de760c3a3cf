"""TokenFlow with Plug-and-Play in the cost structure of the authors' published code, as a baseline.

Written from reading that code, on our own building blocks. Step by step:

- the keyframe interval is the batch size: one random keyframe per batch; all keyframes attend to all;
- the source branch runs in full in both passes; it provides queries and keys, the injected features, and the tokens
  that are matched;
- at each site, each token of a frame takes the attention output of the most similar source token (cosine, over all
  tokens) in the keyframe of its batch and in that of the batch before; in the source branch too;
- the two are blended by a sigmoid of the distance to the batches' centres;
- guidance is computed for every frame.

Attention is fused here too, and the injected features are those of the settings, so that the comparison is of the
structure alone.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenflow.config import PnP
from tokenflow.diffusion.batches import batches
from tokenflow.diffusion.guidance import Guidance
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.schedules import Step
from tokenflow.models.attention import AttentionCall, AttentionOverride, attend_within_frames, project_qkv
from tokenflow.models.injection import Injection, QueriesKeys, repeat_branches
from tokenflow.models.stable_diffusion import StableDiffusion
from tokenflow.models.unet import find_injection_points
from tokenflow.modes.source import InvertedClip


class PublishedTokenFlow:
    """The predictions for every frame, as the published code computes them.

    Args:
        source: the clip, inverted with a Stable Diffusion model.
        settings: what is injected, and until when.
        guidance: the prompts.
        batch_size: frames per batch, and per keyframe.
        seed: of the keyframes that are drawn.

    Raises:
        TypeError: the model is of another family.
    """

    def __init__(self, source: InvertedClip, settings: PnP, guidance: Guidance, batch_size: int, seed: int) -> None:
        if not isinstance(source.model, StableDiffusion):
            raise TypeError(f"expected a Stable Diffusion model, got {type(source.model).__name__}")
        points = find_injection_points(source.model.network, source.model.sites)
        block: nn.Module = points.block
        self._injected_module = block.conv2 if settings.features == "residual" else block
        self._attention_sites = points.attention
        self._source = source
        self._settings = settings
        self._guidance = guidance
        self._batch_size = batch_size
        self._seed = seed

    def __call__(self, latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        """Batches of frame indices, and the guided prediction (g c h w) for them; latents (f c h w) are all frames'."""
        groups = list(batches(range(len(latents)), self._batch_size))
        draw = np.random.default_rng([self._seed, step.index])
        keyframes = [int(draw.integers(group[0], group[-1] + 1)) for group in groups]
        pivots = Pivots({}, {}, {})
        queries_keys: dict[str, QueriesKeys] = {}
        features = self._run_source(keyframes, step, keep_pivots(pivots, queries_keys))
        injected = self._attention_sites if step.ends_by(self._settings.attention_until) else ()
        injection = Injection({name: queries_keys[name] for name in injected})
        extended = extended_attention(injection, len(keyframes), pivots.outputs)
        self._predict(keyframes, latents, step, features, extended)
        for index, frames in enumerate(groups):
            near = [index, index - 1] if index else [index]
            matches = Matches(near, blend_weights(frames, index, self._batch_size), {})
            features = self._run_source(frames, step, match_tokens(pivots, matches))
            yield frames, self._predict(frames, latents, step, features, propagate(pivots.outputs, matches))

    def _predict(
        self,
        indices: Sequence[int],
        latents: Latents,
        step: Step,
        features: Tensor | None,
        attention: AttentionOverride,
    ) -> Tensor:
        """The guided prediction, from the whole network: also the part that injected features make redundant."""
        model = self._source.model
        with ExitStack() as hooks:
            if features is not None:
                hooks.enter_context(self._injected_module.register_forward_hook(replace_output(features)))
            branches = model.predict(latents[list(indices)], step.at, self._guidance.branches, attention=attention)
        return self._guidance.combine(*self._guidance.split(branches))

    def _run_source(self, indices: Sequence[int], step: Step, attention: AttentionOverride) -> Tensor | None:
        """Run the source branch in full: the features (f d h w) to inject; None if this step injects none."""
        features: list[Tensor] = []
        latents = self._source.latents(step.at, indices)
        with self._injected_module.register_forward_hook(lambda _module, _inputs, output: features.append(output)):
            self._source.model.predict(latents, step.at, self._source.conditioning, attention=attention)
        return features[0] if step.ends_by(self._settings.features_until) else None


@dataclass(frozen=True)
class Pivots:
    """What frames take from the keyframes, by site.

    Attributes:
        tokens: the source's, k n c, which frames' tokens are matched with.
        source: the source's attention output, 1 k n c.
        outputs: the edit's attention output, b k n c.
    """

    tokens: dict[str, Tensor]
    source: dict[str, Tensor]
    outputs: dict[str, Tensor]


@dataclass(frozen=True)
class Matches:
    """Where the tokens of one batch of frames lie in the keyframes.

    Attributes:
        near: the keyframes, the batch's own first.
        weight: f, the weight of the first.
        indices: by site, the index of each token's match in each of these keyframes, f n each.
    """

    near: list[int]
    weight: Tensor
    indices: dict[str, list[Tensor]]


def replace_output(features: Tensor) -> Callable[[nn.Module, object, Tensor], Tensor]:
    """A forward hook that returns features (f d h w) in every branch in place of a module's output."""
    return lambda _module, _inputs, output: repeat_branches(features, output)


def extended_attention(injection: Injection, frames: int, outputs: dict[str, Tensor]) -> AttentionOverride:
    """Every keyframe attends to all; `outputs` is filled with the features, b k n c."""

    def attend(call: AttentionCall) -> Tensor:
        queries, keys, values = project_qkv(call, injection)  # (b k) n c each
        memory = tuple(part.unflatten(0, (-1, frames)) for part in call.memory(keys, values))  # b k n c
        together = call.attend(queries.unflatten(0, (-1, frames)).flatten(1, 2), memory)  # b (k n) c
        outputs[call.site.name] = together.unflatten(1, (frames, -1))
        return outputs[call.site.name].flatten(0, 1)

    return attend


def keep_pivots(pivots: Pivots, queries_keys: dict[str, QueriesKeys]) -> AttentionOverride:
    """The source's keyframes, each attending to itself; fills in their tokens, outputs, queries and keys."""

    def attend(call: AttentionCall) -> Tensor:
        queries, keys, values = project_qkv(call)
        output = attend_within_frames(call, queries, keys, values)
        pivots.tokens[call.site.name], pivots.source[call.site.name] = call.tokens, output[None]
        queries_keys[call.site.name] = queries, keys
        return output

    return attend


def match_tokens(pivots: Pivots, matches: Matches) -> AttentionOverride:
    """The source's frames: fills in the most similar source token of each keyframe, and propagates its output."""

    def attend(call: AttentionCall) -> Tensor:
        own, keyframes = (F.normalize(each, dim=-1) for each in (call.tokens, pivots.tokens[call.site.name]))
        matches.indices[call.site.name] = [(own @ keyframes[near].T).argmax(-1) for near in matches.near]  # f n each
        return propagate(pivots.source, matches)(call)

    return attend


def propagate(outputs: dict[str, Tensor], matches: Matches) -> AttentionOverride:
    """The keyframes' outputs (b k n c) at the matches, blended."""

    def attend(call: AttentionCall) -> Tensor:
        indices = zip(matches.near, matches.indices[call.site.name], strict=True)
        taken = [outputs[call.site.name][:, keyframe][:, index] for keyframe, index in indices]  # b f n c each
        if len(taken) == 1:
            return taken[0].flatten(0, 1)
        weight = matches.weight[:, None, None].to(call.tokens)  # f 1 1
        return (weight * taken[0] + (1 - weight) * taken[1]).flatten(0, 1)

    return attend


def blend_weights(frames: Sequence[int], batch: int, size: int) -> Tensor:
    """The weight (f) of the batch's own keyframe: the sigmoid of the relative distance to the centre before."""
    positions = torch.tensor(frames, dtype=torch.float32)
    own, before = batch * size + size // 2, (batch - 1) * size + size // 2
    distance = (positions - own).abs() + (positions - before).abs()
    return torch.sigmoid((positions - before).abs() / distance)
