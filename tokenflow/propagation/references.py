"""References: images whose tokens every keyframe attends to, at every attention site (shared attention).

A reference goes through the network at the level of each step, and what its frames would attend to is joined to what
keyframes attend to, as that of another keyframe is (Hertz et al., CVPR 2024, section 4). A style reference also lends
the statistics of its queries and keys, per channel, to those of the keyframes (AdaIN: Huang & Belongie, ICCV 2017), so
that these find it like their own: wholly at a weight of 1, and in part below. Of other references a part may be left
out, such as the background of a thing; their tokens are looked for by the same queries.

Only branches with the prompt see references. Guidance then enforces a reference as it does the prompt.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.levels import Level
from tokenflow.models.attention import AttentionCall, AttentionOverride, Memory, attend_within_frames, project_qkv
from tokenflow.models.injection import EMPTY, Injection
from tokenflow.models.model import Model

MIN_INSIDE = 0.5
"""A token counts if more than this share of it lies inside."""

MIN_DEVIATION = 1e-6
"""Added to standard deviations, by which tokens are divided."""

Moments = tuple[Tensor, Tensor]
"""Mean and standard deviation over tokens, b 1 c each."""


@dataclass(frozen=True)
class ReferenceFeatures:
    """References as one network call attends to them.

    Attributes:
        memories: by site, theirs, b r ….
        moments: by site, those of queries and of keys of style references; empty without any.
        counts: b r, how many times the tokens of each count: 0 in a branch that does not see it.
        style: how far statistics are moved to these moments, in [0, 1].
    """

    memories: Mapping[str, Memory]
    moments: Mapping[str, tuple[Moments, Moments]]
    counts: Tensor
    style: float = 0.0

    def of_last(self, branches: int) -> "ReferenceFeatures":
        """The same for calls with the last branches only."""
        memories = {site: tuple(each[-branches:] for each in memory) for site, memory in self.memories.items()}
        moments = {
            site: (_last(of_queries, branches), _last(of_keys, branches))
            for site, (of_queries, of_keys) in self.moments.items()
        }
        return replace(self, memories=memories, moments=moments, counts=self.counts[-branches:])

    def restyled(self, call: AttentionCall, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys ((b f) n c each) with the statistics of style references, where a branch sees these.

        Those of text, in joint attention, stay as they are.
        """
        if not self.moments:
            return queries, keys
        text = call.text_tokens
        both = zip((queries, keys), self.moments[call.site.name], strict=True)
        restyled = [torch.cat([each[:, :text], self._restyled(each[:, text:], moments)], 1) for each, moments in both]
        return restyled[0], restyled[1]

    def _restyled(self, tokens: Tensor, moments: Moments) -> Tensor:
        frames = len(tokens) // len(self.counts)
        seen = (self.counts.sum(1) > 0).repeat_interleave(frames)[:, None, None]  # (b f) 1 1
        own_mean, own_deviation = _moments(tokens[:, None], torch.ones(1))  # (b f) 1 c
        mean, deviation = (each.repeat_interleave(frames, dim=0) for each in moments)  # (b f) 1 c
        moved = (tokens - own_mean) / own_deviation * deviation + mean
        changed = tokens + self.style * (moved - tokens)
        return torch.where(seen, changed.to(tokens), tokens)

    def joined(self, site: str, memory: Memory) -> tuple[Memory, Tensor]:
        """A memory (m k …, with m = b or (b f)) with that of the references behind it, and counts m k+r."""
        repeats = len(memory[0]) // len(self.counts)
        of_references = (each.repeat_interleave(repeats, dim=0) for each in self.memories[site])
        both = tuple(torch.cat([own, other.to(own)], 1) for own, other in zip(memory, of_references, strict=True))
        once = torch.ones(memory[0].shape[:2], device=self.counts.device)  # m k
        # Weighed against all k frames, so that a reference means the same in a window of any size.
        return both, torch.cat([once, once.sum(1, keepdim=True) * self.counts.repeat_interleave(repeats, dim=0)], 1)

    def within_frames(self, injection: Injection = EMPTY) -> AttentionOverride:
        """Attention of every frame to itself and to the references."""

        def attend(call: AttentionCall) -> Tensor:
            queries, keys, values = project_qkv(call, injection)  # (b f) n c each
            queries, keys = self.restyled(call, queries, keys)
            own = tuple(each[:, None] for each in call.memory(keys, values))  # (b f) 1 …
            return call.attend(queries, *self.joined(call.site.name, own))

        return attend


@dataclass(frozen=True, eq=False)
class References:
    """The references of one edit.

    Attributes:
        model: the network.
        latents_at: their latents at a level, r c h w.
        counts: r, how many times each of them counts beside everything that keyframes attend to otherwise.
        inside: r h w on the grid of latents, in [0, 1]: 1 where a reference is attended to.
        styles: r, by what weight each lends its statistics, which replace a frame's own from a sum of 1 on; 0 for not
            at all.
    """

    model: Model
    latents_at: Callable[[Level], Tensor]
    counts: Tensor
    inside: Tensor
    styles: Tensor
    _last: dict[Level, ReferenceFeatures] = field(default_factory=dict, repr=False)

    def at(self, level: Level, conditioning: Conditioning, prompts: int) -> ReferenceFeatures:
        """What calls at a level attend to; of the last level it is kept.

        Args:
            level: of the step.
            conditioning: all branches of the edit.
            prompts: how many of these, the last ones, are prompts, which see the references.
        """
        if level not in self._last:
            self._last.clear()
            self._last[level] = self._read(level, conditioning, prompts)
        return self._last[level]

    def _read(self, level: Level, conditioning: Conditioning, prompts: int) -> ReferenceFeatures:
        count, branches = len(self.counts), conditioning.branches
        memories: dict[str, Memory] = {}
        moments: dict[str, tuple[Moments, Moments]] = {}

        def keep(call: AttentionCall) -> Tensor:
            queries, keys, values = project_qkv(call)  # (b r) n c each
            grid = call.site.grid(*self.inside.shape[-2:])
            places = _repeated_inside(F.adaptive_avg_pool2d(self.inside[None], grid)[0].flatten(1))  # r n
            text = torch.arange(call.text_tokens).expand(count, -1)  # of joint attention, in front of the image
            places = torch.cat([text, call.text_tokens + places], 1)  # r t+n
            places = places.repeat(branches, 1)[..., None].to(keys.device)  # (b r) t+n 1
            memory = call.memory(*(each.take_along_dim(places, 1) for each in (keys, values)))
            memories[call.site.name] = tuple(each.unflatten(0, (branches, count)) for each in memory)
            if self.styles.any():
                image = (each[:, call.text_tokens :] for each in (queries, keys))  # (b r) n c each
                of_queries, of_keys = (_moments(each.unflatten(0, (branches, count)), self.styles) for each in image)
                moments[call.site.name] = of_queries, of_keys
            return attend_within_frames(call, queries, keys, values)

        self.model.predict(self.latents_at(level), level, conditioning, attention=keep)
        seen = torch.arange(branches) >= branches - prompts  # b
        counts = (seen[:, None] * self.counts).to(next(iter(memories.values()))[0].device)  # b r
        return ReferenceFeatures(memories, moments, counts.float(), min(1.0, float(self.styles.sum())))


def _repeated_inside(inside: Tensor) -> Tensor:
    """The places of tokens that count, repeated until they are as many as all: r n of r n in [0, 1].

    So they have the weight of a whole image, however small what counts is; all count where none would.
    """
    places = torch.arange(inside.shape[1])
    kept = [row.nonzero().flatten() if row.any() else places for row in inside > MIN_INSIDE]
    return torch.stack([each[places % len(each)] for each in kept])


def _moments(tokens: Tensor, weights: Tensor) -> Moments:
    """Mean and standard deviation, m 1 c each in float32, of the tokens m s n c of images that count by weights s."""
    wide = tokens.float()
    shares = (weights / weights.sum()).to(wide)[:, None]  # s 1
    means = wide.mean(2)  # m s c
    mean = (shares * means).sum(1, keepdim=True)  # m 1 c
    variances = wide.var(2, unbiased=False) + (means - mean).square()  # m s c
    return mean, (shares * variances).sum(1, keepdim=True).sqrt() + MIN_DEVIATION


def _last(moments: Moments, branches: int) -> Moments:
    mean, deviation = moments
    return mean[-branches:], deviation[-branches:]
