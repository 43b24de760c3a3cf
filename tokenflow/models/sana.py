"""Sana 1.0, Sana 1.5 and SANA-Sprint through diffusers: linear-attention transformer, AutoencoderDC, Gemma-2."""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from inspect import signature
from typing import Any

import torch
from diffusers import SanaPipeline, SanaSprintPipeline, SCMScheduler
from diffusers.models.transformers.sana_transformer import SanaAttnProcessor2_0
from torch import Tensor, nn

from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.guidance import SCALE, GuidanceKind
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.schedules import SanaSchedule, Schedule, SprintSchedule
from tokenflow.errors import ModelError
from tokenflow.models.attention import AttentionCall, AttentionOverride, Site, per_frame_attention
from tokenflow.models.capture import Capture, CaptureDone, check_points
from tokenflow.models.injection import ATTENTION, BLOCK, EMPTY, RESIDUAL, Injection, repeat_branches
from tokenflow.models.linear_attention import LinearAttention
from tokenflow.models.model import Control
from tokenflow.models.patching import Forward, Hook, patched
from tokenflow.models.pipeline_model import PipelineModel, check_parts
from tokenflow.models.processors import attention_processors
from tokenflow.models.prompt_weights import notice_unread_weights
from tokenflow.models.sana_controlnet import SanaControl, load_sana_controlnet
from tokenflow.models.text_change import TextChange
from tokenflow.models.tokens import notice_long_prompt
from tokenflow.models.vocabulary import Vocabulary, notice_unknown_words

PARTS = ("transformer", "vae", "tokenizer", "text_encoder", "scheduler")

DEPTH = 1 / 3
"""How far into the network features are injected. Chosen by analogy with the middle of a UNet's decoder and not yet
measured on a trained Sana."""

INSTRUCTION: list[str] = signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
"""What Sana's authors put before every prompt that is not a negative one (Xie et al., ICLR 2025)."""

MASKED = -10_000.0
"""Bias of what is masked in attention, as in diffusers."""

DEFAULT_SCALE: float = signature(SanaSprintPipeline.__call__).parameters["guidance_scale"].default
"""Of guidance that is embedded, where a conditioning does not say."""

MAX_TOKENS: int = signature(SanaPipeline.__call__).parameters["max_sequence_length"].default
"""Of a prompt."""


class Sana(PipelineModel):
    """A Sana pipeline of diffusers as a `Model` (see models/model.py for its methods).

    Args:
        pipeline: a loaded SanaPipeline or SanaSprintPipeline.
        vocabulary: every word the model knows, if it is a closed set. Other words in a prompt give a notice, and the
            long instruction is left out, since it consists of other words.
        device: where it works; by default where its transformer is.
        few_step: whether SANA-Sprint is expected, True, or Sana, False; None for whichever it is.
        offload: keep only the part at work on the device and the others in main memory.
        fingerprint: computes the fingerprint; by default from the weights in memory.

    Raises:
        ModelError: a part is missing, the transformer and the autoencoder do not fit together, or it is not the one
            of the two that was expected.
    """

    points: Mapping[str, str] = {
        ATTENTION: "queries and keys of self-attention behind a third of the blocks",
        BLOCK: "the image tokens behind a third of the blocks",
        RESIDUAL: "what the last of these blocks adds to them",
    }

    def __init__(
        self,
        pipeline: Any,
        vocabulary: Vocabulary | None = None,
        *,
        device: torch.device | None = None,
        few_step: bool | None = None,
        offload: bool = False,
        fingerprint: Callable[[], str] | None = None,
    ) -> None:
        check_parts(pipeline, PARTS, "Sana")
        _check_channels(pipeline)
        is_sprint = isinstance(pipeline.scheduler, SCMScheduler)
        if few_step not in (None, is_sprint):
            found = "SANA-Sprint, which samples in few steps" if is_sprint else "Sana, which samples in many steps"
            raise ModelError(f"model.few_step is {str(few_step).lower()}, but this model is {found}; leave it out")
        self._pipeline = pipeline
        self._transformer = pipeline.transformer
        for part in (pipeline.vae, pipeline.text_encoder):
            if part.dtype == torch.float16:  # both overflow in it
                part.to(torch.bfloat16)
        super().__init__(
            self._transformer,
            pipeline.vae,
            [pipeline.text_encoder],
            device=device,
            offload=offload,
            fingerprint=fingerprint,
        )
        config = self._transformer.config
        self._vocabulary = vocabulary
        self._max_tokens = min(MAX_TOKENS, pipeline.tokenizer.model_max_length)
        self.guidance: GuidanceKind = "embedded" if config.guidance_embeds else "branches"
        scheduler = pipeline.scheduler.config
        self.schedule: Schedule = (
            SprintSchedule(scheduler) if is_sprint else SanaSchedule(scheduler, config.timestep_scale)
        )
        blocks = range(len(self._transformer.transformer_blocks))
        width = config.num_attention_heads * config.attention_head_dim
        self.sites = tuple(
            Site(f"transformer_blocks.{index}.attn1", config.patch_size, linear=True, width=width) for index in blocks
        )
        self._injected_block = int(DEPTH * len(blocks))
        self._injected_sites = [site.name for site in self.sites][min(self._injected_block + 1, len(blocks) - 1) :]
        self.latent_channels: int = config.in_channels
        self.size_multiple: int = self.pixels_per_latent * config.patch_size
        self.native_size: int = self.pixels_per_latent * config.sample_size

    def condition(self, prompt: str, *, size: tuple[int, int] | None = None, negative: bool = False) -> Conditioning:
        """Gemma-2's last states 1 n c, and the mask (1 n) of those that stand for words.

        A prompt that is not negative follows the long instruction, whose own states are then cut out.
        """
        notice_unknown_words(prompt, self._vocabulary)
        notice_unread_weights(prompt)
        notice_long_prompt(self._pipeline.tokenizer, prompt, self._max_tokens)
        # A pipeline with guidance by branches would encode an empty negative prompt as well.
        alone = {"do_classifier_free_guidance": False} if isinstance(self._pipeline, SanaPipeline) else {}
        with self._turn, torch.no_grad():
            self._ready(self._pipeline.text_encoder)
            tokens, mask, *_ = self._pipeline.encode_prompt(
                prompt,
                device=self.device,
                max_sequence_length=self._max_tokens,
                complex_human_instruction=None if negative or self._vocabulary else INSTRUCTION,
                **alone,
            )
        return Conditioning(tokens, {"mask": mask})

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
        if attention is None and inject.queries_keys:
            attention = per_frame_attention(inject)
        processors = attention_processors(self._transformer, self.sites, LinearAttention, attention)
        with self._turn, patched(processors, forwards=self._forwards(inject.features)):
            return self._call(latents, level, conditioning, inject.residuals)

    def _forwards(self, features: Mapping[str, Tensor]) -> dict[nn.Module, Forward]:
        """What blocks do where features (f d h w) are injected: up to an injected output nothing is computed."""
        blocks = self._transformer.transformer_blocks
        if BLOCK in features:
            forwards: dict[nn.Module, Forward] = dict.fromkeys(blocks[: self._injected_block], _unchanged)
            return forwards | {blocks[self._injected_block]: _constant_forward(features[BLOCK])}
        if RESIDUAL in features:
            return {blocks[self._injected_block]: _adding_forward(features[RESIDUAL])}
        return {}

    def capture(self, latents: Tensor, level: Level, conditioning: Conditioning, wanted: Collection[str]) -> Injection:
        """Features at some injection points, with an early exit behind the last of them.

        Raises:
            ValueError: a point is not one of `points`.
        """
        check_points(wanted, self.points)
        if not wanted:
            return EMPTY
        capture = Capture(wanted, self._injected_sites)
        both = {BLOCK: capture.hook(BLOCK, _output_map), RESIDUAL: capture.hook(RESIDUAL, _added_map)}
        hooks = [both[point] for point in wanted if point != ATTENTION]
        self._run_until_done(latents, level, conditioning, capture.override, hooks)
        return capture.injection

    @property
    def network(self) -> Any:
        """The network itself, a diffusers SanaTransformer2DModel."""
        return self._transformer

    @property
    def blocks(self) -> list[nn.Module]:
        """The transformer's blocks."""
        return [*self._transformer.transformer_blocks]

    def training_prediction(self, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
        """The transformer's output with gradients: b c h w."""
        with self._turn:
            return self._run(noisy, times.to(self.device), conditioning, None).float()

    def features(self, latents: Tensor, level: Level, conditioning: Conditioning) -> Tensor:
        """The modulated tokens that enter self-attention half-way through the network: f d h w."""
        middle = self.sites[len(self.sites) // 2]
        kept: list[Tensor] = []

        def keep(call: AttentionCall) -> Tensor:
            if call.site == middle:
                kept.append(call.tokens)
                raise CaptureDone
            return per_frame_attention()(call)

        self._run_until_done(latents, level, conditioning, keep, [])
        return _as_map(kept[0].float(), *middle.grid(*latents.shape[-2:]))

    def text_change(self, latents: Tensor, level: Level, conditioning: Conditioning, other: Conditioning) -> Tensor:
        """How much of the cross-attention another text would change, f h w: 0 for nothing (models/text_change.py)."""
        size, network = (latents.shape[-2], latents.shape[-1]), self._transformer
        grids = {network.transformer_blocks[index].attn2: site.grid(*size) for index, site in enumerate(self.sites)}
        with self._turn, torch.no_grad():
            tokens = other.tokens.to(self.device, self._ready(network).dtype)
            states = network.caption_norm(network.caption_projection(tokens))  # 1 n c, as all blocks take them
            mask = (1 - other.added["mask"][:, None].to(states)) * MASKED  # 1 1 n
            compared = TextChange(grids, size, SanaAttnProcessor2_0(), states, mask)
            with patched(compared.processors):
                self._call(latents, level, conditioning, None)
        return compared.change

    def _run_until_done(
        self,
        latents: Tensor,
        level: Level,
        conditioning: Conditioning,
        attention: AttentionOverride | None,
        hooks: Collection[Hook],
    ) -> None:
        """Run the transformer until an override, or a hook behind the block of injection, has all that is wanted."""
        processors = attention_processors(self._transformer, self.sites, LinearAttention, attention)
        block = self._transformer.transformer_blocks[self._injected_block]

        def all_hooks(*arguments: Any) -> None:
            for hook in hooks:
                hook(*arguments)

        with self._turn, patched(processors, {block: all_hooks}), suppress(CaptureDone):
            self._call(latents, level, conditioning, None)

    def _open_control_network(self, path: str, detector: str) -> Any:
        return load_sana_controlnet(path, detector, self._transformer, self.device)

    def as_control(self, network: Any, detector: str, encode: Callable[[Tensor], Tensor]) -> Control:
        """A ControlNet, which takes latents of images."""
        return SanaControl(network, self.device, encode)

    def _call(self, latents: Tensor, level: Level, conditioning: Conditioning, residuals: Any) -> Tensor:
        """The transformer's output, b f c h w in float32."""
        branches, frames = conditioning.branches, len(latents)
        times = torch.full([branches * frames], level.time, device=self.device)
        with torch.no_grad():
            repeated = latents.repeat(branches, 1, 1, 1)
            output = self._run(repeated, times, conditioning.for_frames(frames), residuals)
        return output.float().unflatten(0, (branches, frames))

    def _run(self, latents: Tensor, times: Tensor, per_frame: Conditioning, residuals: Any) -> Tensor:
        """The transformer's output for (b f) c h w at times (b f), each with its own conditioning."""
        dtype, config = self._transformer.dtype, self._transformer.config
        scale = None
        if self.guidance == "embedded":
            default = torch.full([len(latents)], DEFAULT_SCALE, device=self.device)
            scale = per_frame.added.get(SCALE, default).to(dtype) * config.guidance_embeds_scale
        output: Tensor = self._ready(self._transformer)(
            latents.to(self.device, dtype),
            encoder_hidden_states=per_frame.tokens.to(dtype),
            encoder_attention_mask=per_frame.added["mask"],
            timestep=times,
            guidance=scale,
            controlnet_block_samples=residuals,
            return_dict=False,
        )[0]
        return output[:, : self.latent_channels]


def _as_map(tokens: Tensor, rows: int, columns: int) -> Tensor:
    """Image tokens f n d as a map f d h w."""
    return tokens.transpose(1, 2).unflatten(-1, (rows, columns))


def _output_map(inputs: Any, output: Tensor) -> Tensor:
    """A block's output as a map f d h w; the last two of its inputs are the rows and columns of the token grid."""
    return _as_map(output, *inputs[-2:])


def _added_map(inputs: Any, output: Tensor) -> Tensor:
    """What a block adds to its input, as a map f d h w."""
    return _as_map(output - inputs[0], *inputs[-2:])


def _unchanged(hidden: Tensor, *_: Any) -> Tensor:
    return hidden


def _constant_forward(features: Tensor) -> Forward:
    """A forward that returns these features (f d h w) in every branch, whatever its input."""

    def forward(hidden: Tensor, *_: Any) -> Tensor:
        return repeat_branches(features.flatten(2).transpose(1, 2).to(hidden), hidden)

    return forward


def _adding_forward(features: Tensor) -> Forward:
    """A forward that adds these features (f d h w) to its input in every branch."""

    def forward(hidden: Tensor, *_: Any) -> Tensor:
        return hidden + repeat_branches(features.flatten(2).transpose(1, 2).to(hidden), hidden)

    return forward


def _check_channels(pipeline: Any) -> None:
    expected, encoded = pipeline.transformer.config.in_channels, pipeline.vae.config.latent_channels
    if expected != encoded:
        raise ModelError(
            f"the transformer takes {expected} channels but the autoencoder has {encoded}; expected the autoencoder "
            "that it was trained with: choose another model.path or model.base"
        )
