"""TokenFlow with Plug-and-Play in the cost structure of the authors' published code, to be measured against.

Written from reading that code, on our own building blocks. What it does, step by step:

- the keyframe interval is the batch size, one keyframe at random in each batch; all keyframes attend to all;
- the source branch runs whole in both passes, and gives queries and keys, the injected features, and what is matched;
- at each site, each token of a frame takes the attention output of the most similar source token (cosine, over all
  tokens) of its batch's keyframe and of the one before; in the source branch too;
- the two are blended by the sigmoid of the distance to the batches' centres;
- guidance is computed for every frame.

Attention is fused here too, and what is injected are the features that the settings say, so that what is compared is
the structure and nothing else.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenflow.config import PnP as Settings
from tokenflow.diffusion.batches import batches
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.schedules import Step
from tokenflow.models.attention import (
    AttentionOverride,
    Features,
    Hook,
    Injection,
    QueriesKeys,
    SelfAttention,
    Site,
    project,
    repeat_branches,
)
from tokenflow.modes.mode import InvertedClip
from tokenflow.propagation import Guidance


class PublishedTokenFlow:
    """The noise of every frame, as the published code finds it.

    Args:
        source: the clip.
        settings: until when features and attention are injected.
        guidance: the prompts.
        batch_size: frames a batch, and frames to a keyframe.
        seed: of the draw of keyframes.
    """

    def __init__(
        self, source: InvertedClip, settings: Settings, guidance: Guidance, batch_size: int, seed: int
    ) -> None:
        self._source = source
        self._settings = settings
        self._guidance = guidance
        self._batch_size = batch_size
        self._seed = seed

    def __call__(self, latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        """Frames in batches, and the guided noise (g c h w) in their latents (f c h w are all frames')."""
        groups = list(batches(range(len(latents)), self._batch_size))
        draw = np.random.default_rng([self._seed, step.index])
        keyframes = [int(draw.integers(group[0], group[-1] + 1)) for group in groups]
        pivots = Pivots({}, {}, {})
        queries_keys: dict[str, QueriesKeys] = {}
        features = self._read_source(keyframes, step, _kept(pivots, queries_keys))
        attention = self._source.model._points.attention
        injected = attention if step.is_before(self._settings.attention_until) else ()
        injection = Injection({name: queries_keys[name] for name in injected}, features)
        self._predict(keyframes, latents, step, injection, _extended(injection, len(keyframes), pivots.outputs))
        for index, frames in enumerate(groups):
            carried = Carried([index, index - 1] if index else [index], _blend(frames, index, self._batch_size), {})
            features = self._read_source(frames, step, _matched(pivots, carried))
            injection = Injection({}, features)
            yield frames, self._predict(frames, latents, step, injection, _taken(pivots.outputs, carried))

    def _predict(
        self, frames: Sequence[int], latents: Latents, step: Step, injection: Injection, strategy: AttentionOverride
    ) -> Tensor:
        """With the whole network run, as there, also where an injected feature overrules what came before it."""
        model = self._source.model
        with ExitStack() as hooks:
            for place, features in injection.features.items():
                hooks.enter_context(model._features[place].register_forward_hook(_replacing(features)))
            branches = model.predict(latents[frames], step.timestep, self._guidance.branches, strategy=strategy)
        return self._guidance.combine(*self._guidance.split(branches))

    def _read_source(self, frames: Sequence[int], step: Step, strategy: AttentionOverride) -> dict[Features, Tensor]:
        """The source branch, run whole: the features (f d h w) that are injected at this step."""
        model, features = self._source.model, list[Tensor]()
        block = model._features[self._settings.features]
        with block.register_forward_hook(lambda _module, _inputs, output: features.append(output)):
            latents = self._source.latents(step.timestep, frames)
            model.predict(latents, step.timestep, self._source.conditioning, strategy=strategy)
        return {self._settings.features: features[0]} if step.is_before(self._settings.features_until) else {}


@dataclass(frozen=True)
class Pivots:
    """What frames take from the keyframes, by site.

    Attributes:
        tokens: the source's, k n c, among which matches are looked for.
        source: the source's attention output, 1 k n c.
        outputs: the edit's, b k n c.
    """

    tokens: dict[str, Tensor]
    source: dict[str, Tensor]
    outputs: dict[str, Tensor]


@dataclass(frozen=True)
class Carried:
    """How the frames of one batch take it.

    Attributes:
        near: the keyframes, the batch's own first.
        weight: f, the share of the first.
        places: by site, where each token's match lies in each of these keyframes, f n each.
    """

    near: list[int]
    weight: Tensor
    places: dict[str, list[Tensor]]


def _replacing(features: Tensor) -> Hook:
    """The hook that puts features (f d h w) in every branch of a module's output."""

    def replace(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return repeat_branches(features, output)

    return replace


def _extended(injection: Injection, frames: int, outputs: dict[str, Tensor]) -> AttentionOverride:
    """Attention of every keyframe to all; its output is kept, b k n c."""

    def attend(site: Site, layer: SelfAttention, tokens: Tensor) -> Tensor:
        parts = project(site, layer, tokens, injection)
        together = layer.attend(*(part.unflatten(0, (-1, frames)).flatten(1, 2) for part in parts))
        outputs[site.name] = together.unflatten(1, (frames, -1))
        return outputs[site.name].flatten(0, 1)

    return attend


def _kept(pivots: Pivots, queries_keys: dict[str, QueriesKeys]) -> AttentionOverride:
    """The source's keyframes, each to itself; tokens, queries, keys and outputs are kept."""

    def attend(site: Site, layer: SelfAttention, tokens: Tensor) -> Tensor:
        queries, keys, values = project(site, layer, tokens)
        output = layer.attend(queries, keys, values)
        pivots.tokens[site.name], pivots.source[site.name] = tokens, output[None]
        queries_keys[site.name] = queries, keys
        return output

    return attend


def _matched(pivots: Pivots, carried: Carried) -> AttentionOverride:
    """The source's frames: the most similar source token of each keyframe is found, and its output taken."""

    def attend(site: Site, layer: SelfAttention, tokens: Tensor) -> Tensor:
        here, there = (F.normalize(each, dim=-1) for each in (tokens, pivots.tokens[site.name][carried.near]))
        carried.places[site.name] = [(here @ keyframe.T).argmax(-1) for keyframe in there]
        return _taken(pivots.source, carried)(site, layer, tokens)

    return attend


def _taken(outputs: dict[str, Tensor], carried: Carried) -> AttentionOverride:
    """Keyframes' outputs (b k n c) at the places found, blended."""

    def attend(site: Site, _layer: SelfAttention, states: Tensor) -> Tensor:
        places = zip(carried.near, carried.places[site.name], strict=True)
        taken = [outputs[site.name][:, keyframe][:, place] for keyframe, place in places]
        if len(taken) == 1:
            return taken[0].flatten(0, 1)
        share = carried.weight[:, None, None].to(states)
        return (share * taken[0] + (1 - share) * taken[1]).flatten(0, 1)

    return attend


def _blend(frames: Sequence[int], batch: int, size: int) -> Tensor:
    """The share (f) of the batch's own keyframe: the sigmoid of the relative distance to the centre before."""
    places = torch.tensor(frames, dtype=torch.float32)
    own, before = batch * size + size // 2, (batch - 1) * size + size // 2
    distance = (places - own).abs() + (places - before).abs()
    return torch.sigmoid((places - before).abs() / distance)
