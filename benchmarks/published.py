"""TokenFlow with Plug-and-Play in the cost structure of the authors' published code, to be measured against.

Written from reading that code, on our own building blocks. What it does, step by step:

- the keyframe interval is the batch size, one keyframe at random in each batch; all keyframes attend to all;
- the source branch runs whole in both passes, and gives queries and keys, the residual, and the features to match;
- at each site, each token of a frame takes the attention output of the most similar source token (cosine, over all
  tokens) of its batch's keyframe and of the one before;
- the two are blended by the sigmoid of the distance to the batches' centres;
- guidance is computed for every frame.

Attention is fused here too, so that what is compared is the structure and not the kernel.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tokenflow.attention import Hook, Injection, SelfAttention, Site, Strategy, project, repeat_branches
from tokenflow.config import PnP as Settings
from tokenflow.frames import batches
from tokenflow.keyframes import draw_keyframes
from tokenflow.modes.base import Source
from tokenflow.propagation import Guidance
from tokenflow.rows import Latents
from tokenflow.schedule import Step


class PublishedTokenFlow:
    """The noise of every frame, as the published code finds it.

    Args:
        source: the clip.
        settings: until when features and attention are injected.
        guidance: the prompts.
        batch_size: frames a batch, and frames to a keyframe.
        seed: of the draw of keyframes.
    """

    def __init__(self, source: Source, settings: Settings, guidance: Guidance, batch_size: int, seed: int) -> None:
        self._source = source
        self._settings = settings
        self._guidance = guidance
        self._batch_size = batch_size
        self._seed = seed

    def __call__(self, latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        """Frames in batches, and the guided noise (g c h w) in their latents (f c h w are all frames')."""
        groups = list(batches(range(len(latents)), self._batch_size))
        keyframes = draw_keyframes(len(latents), self._batch_size, self._seed, step.index)
        pivots, injection = self._read_source(keyframes, step, attention=True)
        outputs: dict[str, Tensor] = {}
        self._predict(keyframes, latents, step, injection, _extended(injection, len(keyframes), outputs))
        for index, frames in enumerate(groups):
            tokens, injection = self._read_source(frames, step, attention=False)
            near = [index, index - 1] if index else [index]
            weight = _blend(frames, index, self._batch_size)
            strategy = _matched(tokens, pivots, outputs, near, weight)
            yield frames, self._predict(frames, latents, step, injection, strategy)

    def _predict(
        self, frames: Sequence[int], latents: Latents, step: Step, injection: Injection, strategy: Strategy
    ) -> Tensor:
        """With the whole network run, as there, also where an injected feature overrules what came before it."""
        backbone = self._source.backbone
        with ExitStack() as hooks:
            for place, features in injection.features.items():
                hooks.enter_context(backbone._features[place].register_forward_hook(_replacing(features)))
            branches = backbone.predict(latents[frames], step.timestep, self._guidance.branches, strategy=strategy)
        return self._guidance.combine(*self._guidance.split(branches))

    def _read_source(
        self, frames: Sequence[int], step: Step, *, attention: bool
    ) -> tuple[dict[str, Tensor], Injection]:
        """The source branch, run whole: tokens (f n c) at every site, and what is injected at this step."""
        tokens: dict[str, Tensor] = {}
        queries_keys: dict[str, tuple[Tensor, Tensor]] = {}
        features: list[Tensor] = []
        backbone = self._source.backbone

        def keep(site: Site, layer: SelfAttention, states: Tensor) -> Tensor:
            tokens[site.name] = states
            queries, keys, values = project(site, layer, states)
            queries_keys[site.name] = queries, keys
            return layer.attend(queries, keys, values)

        block = backbone._features[self._settings.features]
        hook = block.register_forward_hook(lambda _module, _inputs, output: features.append(output))
        with hook:
            latents = self._source.latents(step.timestep, frames)
            backbone.predict(latents, step.timestep, self._source.conditioning, strategy=keep)
        injected = backbone._points.attention if attention and step.is_before(self._settings.attention_until) else ()
        injects = step.is_before(self._settings.features_until)
        injection = {self._settings.features: features[0]} if injects else {}
        return tokens, Injection({name: queries_keys[name] for name in injected}, injection)


def _replacing(features: Tensor) -> Hook:
    """The hook that puts features (f d h w) in every branch of a module's output."""

    def replace(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return repeat_branches(features, output)

    return replace


def _extended(injection: Injection, frames: int, outputs: dict[str, Tensor]) -> Strategy:
    """Attention of every keyframe to all; its output is kept, b k n c."""

    def attend(site: Site, layer: SelfAttention, tokens: Tensor) -> Tensor:
        parts = project(site, layer, tokens, injection)
        together = layer.attend(*(part.unflatten(0, (-1, frames)).flatten(1, 2) for part in parts))
        outputs[site.name] = together.unflatten(1, (frames, -1))
        return outputs[site.name].flatten(0, 1)

    return attend


def _matched(
    tokens: dict[str, Tensor],
    pivots: dict[str, Tensor],
    outputs: dict[str, Tensor],
    near: list[int],
    weight: Tensor,
) -> Strategy:
    """The keyframes' output at the most similar source token, blended by `weight` (f) of the first."""

    def attend(site: Site, _layer: SelfAttention, states: Tensor) -> Tensor:
        here = F.normalize(tokens[site.name], dim=-1)
        taken = []
        for keyframe in near:
            places = (here @ F.normalize(pivots[site.name][keyframe], dim=-1).T).argmax(-1)
            taken.append(outputs[site.name][:, keyframe][:, places])
        if len(taken) == 1:
            return taken[0].flatten(0, 1)
        share = weight[:, None, None].to(states)
        return (share * taken[0] + (1 - share) * taken[1]).flatten(0, 1)

    return attend


def _blend(frames: Sequence[int], batch: int, size: int) -> Tensor:
    """The share (f) of the batch's own keyframe: the sigmoid of the relative distance to the centre before."""
    places = torch.tensor(frames, dtype=torch.float32)
    own, before = batch * size + size // 2, (batch - 1) * size + size // 2
    distance = (places - own).abs() + (places - before).abs()
    return torch.sigmoid((places - before).abs() / distance)
