"""What FLUX.1 and FLUX.2 share: a transformer of double-stream and single-stream blocks over text and image tokens."""

import math
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tokenflow.diffusion.conditioning import Conditioning, stack
from tokenflow.diffusion.levels import Level
from tokenflow.models.attention import AttentionCall, AttentionOverride, Site, per_frame_attention
from tokenflow.models.autoencoder import Autoencoder, patchify, unpatchify
from tokenflow.models.block_changes import Change, KeptResiduals, added, as_map, changed_forward, kept_output, replaced
from tokenflow.models.capture import Capture, CaptureDone, check_points
from tokenflow.models.injection import ATTENTION, BLOCK, EMPTY, RESIDUAL, Injection
from tokenflow.models.joint_attention import (
    Beside,
    DoubleStreamAttention,
    JointAttention,
    JointProcessor,
    ParallelAttention,
    ParallelProcessor,
)
from tokenflow.models.patching import patched
from tokenflow.models.pipeline_model import PipelineModel

LATENTS_PER_TOKEN = 2
"""Along each side."""

LATE_DOUBLE = 13 / 19
FIRST_ATTENTION, LAST_ATTENTION = 1 / 38, 26 / 38
"""Where ReFlex (Kim et al., ICCV 2025) injects in FLUX.1: what blocks 13 to 19 of 57 add, the last six double-stream
blocks and the first single-stream one; and attention of the single-stream blocks 1 to 25. As fractions of the blocks of
each kind. Not yet measured on a trained model of another depth."""

TIMES = 1000
"""Times of the schedule per time of the network, which counts from 0 to 1."""


class JointTransformer(PipelineModel):
    """The part of a FLUX that does not depend on its version (see models/model.py for the methods).

    Args:
        pipeline: a loaded pipeline of diffusers.
        text_encoders: of it.
        single: how its single-stream blocks attend.
        autoencoder: wraps its autoencoder.
        device, offload, fingerprint: see `PipelineModel`.
    """

    points: Mapping[str, str] = {
        ATTENTION: "queries and keys of the image tokens in the first two thirds of the single-stream blocks",
        RESIDUAL: "what the last double-stream blocks and the first single-stream one add to the image tokens",
        BLOCK: "the image tokens behind the double-stream blocks",
    }
    injected_features = RESIDUAL
    joins_text = True

    def __init__(
        self,
        pipeline: Any,
        text_encoders: list[Any],
        *,
        single: type[JointAttention],
        autoencoder: type[Autoencoder] = Autoencoder,
        device: torch.device | None,
        offload: bool,
        fingerprint: Callable[[], str] | None,
    ) -> None:
        self._pipeline = pipeline
        self._transformer = pipeline.transformer
        super().__init__(
            self._transformer,
            pipeline.vae,
            text_encoders,
            device=device,
            offload=offload,
            fingerprint=fingerprint,
            autoencoder=autoencoder,
        )
        config = self._transformer.config
        self._double, self._single = self._transformer.transformer_blocks, self._transformer.single_transformer_blocks
        self._single_attention = single
        doubles, singles = len(self._double), len(self._single)
        width = config.num_attention_heads * config.attention_head_dim

        def sites(blocks: str, count: int) -> list[Site]:
            return [Site(f"{blocks}.{index}.attn", LATENTS_PER_TOKEN, width=width) for index in range(count)]

        self._double_sites = sites("transformer_blocks", doubles)
        single_sites = sites("single_transformer_blocks", singles)
        self.sites = (*self._double_sites, *single_sites)
        first = min(math.ceil(FIRST_ATTENTION * singles), singles - 1)
        injected = single_sites[first : max(math.ceil(LAST_ATTENTION * singles), first + 1)]
        self._injected_sites = [site.name for site in injected]
        late = min(round(LATE_DOUBLE * doubles), doubles - 1)
        self._residual_blocks: list[nn.Module] = [*self._double[late:], *self._single[:1]]
        self.latent_channels: int = config.in_channels // LATENTS_PER_TOKEN**2
        self.size_multiple: int = self.pixels_per_latent * LATENTS_PER_TOKEN
        self.native_size: int = pipeline.vae.config.sample_size

    def predict(
        self,
        latents: Tensor,
        level: Level,
        conditioning: Conditioning,
        *,
        attention: AttentionOverride | None = None,
        inject: Injection = EMPTY,
    ) -> Tensor:
        """The flow under each branch: b f c h w."""
        if attention is None and (inject.queries_keys or conditioning.references):
            attention = per_frame_attention(inject)
        text_tokens = conditioning.tokens.shape[1]
        changes = {block: [change] for block, change in self._injected(inject.features)}
        forwards = {block: changed_forward(block, text_tokens, each) for block, each in changes.items()}
        with self._turn, patched(self._processors(attention, conditioning), forwards=forwards):
            return self._call(latents, level, conditioning, inject)

    def capture(self, latents: Tensor, level: Level, conditioning: Conditioning, wanted: Collection[str]) -> Injection:
        """Features at some injection points, with an early exit behind the last of them.

        Raises:
            ValueError: a point is not one of `points`.
        """
        check_points(wanted, self.points)
        if not wanted:
            return EMPTY
        capture = Capture(wanted, self._injected_sites)
        grid = self.sites[0].grid(*latents.shape[-2:])
        changes: dict[nn.Module, list[Change]] = {}
        if RESIDUAL in wanted:
            residuals = KeptResiduals(capture, RESIDUAL, grid, len(self._residual_blocks))
            changes = {block: [residuals] for block in self._residual_blocks}
        if BLOCK in wanted:
            changes.setdefault(self._double[-1], []).append(kept_output(capture, BLOCK, grid))
        self._run_until_done(latents, level, conditioning, capture.override, changes)
        return capture.injection

    def features(self, latents: Tensor, level: Level, conditioning: Conditioning) -> Tensor:
        """The modulated tokens that enter attention half-way through the network: f d h w."""
        middle = self.sites[len(self.sites) // 2]
        grid = middle.grid(*latents.shape[-2:])
        kept: list[Tensor] = []

        def keep(call: AttentionCall) -> Tensor:
            if call.site == middle:
                kept.append(call.tokens[:, -math.prod(grid) :])  # behind the text
                raise CaptureDone
            return per_frame_attention()(call)

        self._run_until_done(latents, level, conditioning, keep, {})
        return as_map(kept[0].float(), grid)

    def text_change(self, latents: Tensor, level: Level, conditioning: Conditioning, other: Conditioning) -> Tensor:
        """How much of the double-stream blocks' attention is different under another text, f h w: 0 for nothing.

        ‖o − o′‖ / ‖o‖ of the image tokens' attention outputs o and, under the other text, o′: the mean over all blocks.
        """
        names = [site.name for site in self._double_sites]
        grid = self.sites[0].grid(*latents.shape[-2:])
        changes: list[Tensor] = []

        def compare(call: AttentionCall) -> Tensor:
            output = per_frame_attention()(call)
            if call.site.name in names:
                own, others = output[:, call.text_tokens :].float().chunk(2)  # f n d each
                changes.append((own - others).norm(dim=-1) / own.norm(dim=-1).clamp_min(1e-6))
                if call.site.name == names[-1]:
                    raise CaptureDone
            return output

        # One of them may be told a scale of guidance and the other not; then both are.
        both = [
            replace(each, added={**other.added, **conditioning.added, **each.added}) for each in (conditioning, other)
        ]
        self._run_until_done(latents, level, stack(both), compare, {})
        change = torch.stack(changes).mean(0)  # f n
        maps = as_map(change[..., None], grid)  # f 1 rows columns
        return nn.functional.interpolate(maps, latents.shape[-2:], mode="bicubic", antialias=False)[:, 0]

    def _run_until_done(
        self,
        latents: Tensor,
        level: Level,
        conditioning: Conditioning,
        attention: AttentionOverride | None,
        changes: Mapping[nn.Module, list[Change]],
    ) -> None:
        """Run the transformer until an override or a change has all that is wanted."""
        text_tokens = conditioning.tokens.shape[1]
        forwards = {block: changed_forward(block, text_tokens, each) for block, each in changes.items()}
        processors = self._processors(attention, conditioning)
        with self._turn, patched(processors, forwards=forwards), suppress(CaptureDone):
            self._call(latents, level, conditioning, EMPTY)

    def _injected(self, features: Mapping[str, Tensor]) -> list[tuple[nn.Module, Change]]:
        """Blocks, and what is injected behind them."""
        if BLOCK in features:
            return [(self._double[-1], replaced(features[BLOCK]))]
        if RESIDUAL not in features:
            return []
        blocks = self._residual_blocks
        parts = features[RESIDUAL].chunk(len(blocks), 1)  # f (blocks d) h w
        return [(block, added(part)) for block, part in zip(blocks, parts, strict=True)]

    def _processors(
        self, attention: AttentionOverride | None, conditioning: Conditioning
    ) -> dict[nn.Module, JointProcessor]:
        """A processor for each attention module; none without an override."""
        if attention is None:
            return {}
        beside = Beside(conditioning.tokens.shape[1], conditioning.references or {})
        processors: dict[nn.Module, JointProcessor] = {}
        for site in self.sites:
            is_double = site in self._double_sites
            wrap = DoubleStreamAttention if is_double else self._single_attention
            processor = ParallelProcessor if wrap is ParallelAttention else JointProcessor
            processors[self._transformer.get_submodule(site.name)] = processor(site, wrap, beside, attention)
        return processors

    @property
    def network(self) -> Any:
        """The transformer."""
        return self._transformer

    @property
    def blocks(self) -> list[nn.Module]:
        """Double-stream and single-stream blocks."""
        return [*self._double, *self._single]

    def training_prediction(self, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
        """The transformer's output with gradients: b c h w."""
        with self._turn:
            return self._run(noisy, times.to(self.device), conditioning, EMPTY, branches=1)

    def _call(self, latents: Tensor, level: Level, conditioning: Conditioning, inject: Injection) -> Tensor:
        """The transformer's output, b f c h w in float32."""
        branches, frames = conditioning.branches, len(latents)
        times = torch.full([branches * frames], level.time, device=self.device)
        with torch.no_grad():
            output = self._run(latents, times, conditioning.for_frames(frames), inject, branches)
        return output.unflatten(0, (branches, frames))

    def _run(self, latents: Tensor, times: Tensor, per_frame: Conditioning, inject: Injection, branches: int) -> Tensor:
        """The transformer's output for latents f c h w, repeated per branch: (b f) c h w in float32."""
        dtype = self._transformer.dtype
        rows, columns = self.sites[0].grid(*latents.shape[-2:])
        images = [latents] if inject.sources is None else [latents, inject.sources.to(latents)]
        tokens = torch.cat([self._pack(each.to(self.device)) for each in images], 1)  # f n c, or f 2n c
        ids = torch.cat([self._image_ids(rows, columns, place) for place in range(len(images))])
        output = self._ready(self._transformer)(
            hidden_states=tokens.to(dtype).repeat(branches, 1, 1),
            encoder_hidden_states=per_frame.tokens.to(dtype),
            timestep=times / TIMES,
            img_ids=ids,
            txt_ids=self._text_ids(per_frame.tokens.shape[1]),
            return_dict=False,
            **self._more_inputs(per_frame, inject),
        )[0]
        return self._unpack(output[:, : rows * columns].float(), (rows, columns))

    def _pack(self, latents: Tensor) -> Tensor:
        """Latents f c h w as tokens f (h/2 w/2) (c 2 2)."""
        return patchify(latents).flatten(2).transpose(1, 2)

    def _unpack(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """The latents of tokens."""
        return unpatchify(as_map(tokens, grid))

    def _image_ids(self, rows: int, columns: int, place: int) -> Tensor:
        """Where the tokens of an image are, n a for a axes: of the frame itself (place 0), and images beside it."""
        raise NotImplementedError

    def _text_ids(self, count: int) -> Tensor:
        """Where text tokens are, n a."""
        raise NotImplementedError

    def _more_inputs(self, conditioning: Conditioning, inject: Injection) -> dict[str, Any]:
        """What else the network takes, for the branches of every frame."""
        raise NotImplementedError
