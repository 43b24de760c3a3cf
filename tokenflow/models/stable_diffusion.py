"""Stable Diffusion 1.x, 2.x and XL through diffusers: UNet with cross-attention, AutoencoderKL, CLIP text encoders."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from inspect import signature
from typing import Any

import numpy as np
import torch
from diffusers import LatentConsistencyModelPipeline
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn

from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.few_step import FewStep, few_step_of
from tokenflow.diffusion.guidance import SCALE, GuidanceKind
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.schedules import DiffusionSchedule, Schedule
from tokenflow.errors import ModelError
from tokenflow.models.attention import AttentionCall, AttentionOverride, per_frame_attention
from tokenflow.models.autoencoder import upcast
from tokenflow.models.capture import Capture, CaptureDone, check_points
from tokenflow.models.checkpoints.file_kinds import CHANNELS
from tokenflow.models.clip_text import ClipTextEncoders
from tokenflow.models.controlnet import load_controlnet, unet_control
from tokenflow.models.identity import path_fingerprint
from tokenflow.models.injection import ATTENTION, BLOCK, EMPTY, RESIDUAL, Injection, repeat_branches
from tokenflow.models.inpainting import is_inpainting, nothing_shown
from tokenflow.models.ip_adapter import (
    ImagePrompt,
    IPAdapter,
    added_images,
    image_processors,
    is_of_images,
    load_adapter,
)
from tokenflow.models.model import Control
from tokenflow.models.patching import Forward, Hook, patched
from tokenflow.models.pipeline_model import PipelineModel, check_parts
from tokenflow.models.processors import attention_processors
from tokenflow.models.prompt_weights import plain_text
from tokenflow.models.text_change import TextChange
from tokenflow.models.unet import (
    UNetAttention,
    blocks_without,
    coarsest_scale,
    find_injection_points,
    find_sites,
    text_grids,
)
from tokenflow.models.vocabulary import Vocabulary, notice_unknown_words

PARTS = ("unet", "vae", "tokenizer", "text_encoder", "scheduler")

LATENTS, XL_LATENTS = 64, 128
"""Along each side of the images that Stable Diffusion 1.x and XL were trained on."""

DEFAULT_SCALE: float = signature(LatentConsistencyModelPipeline.__call__).parameters["guidance_scale"].default
"""Of guidance that is embedded, where a conditioning does not say."""


class StableDiffusion(PipelineModel):
    """A Stable Diffusion pipeline of diffusers as a `Model` (see models/model.py for its methods).

    Args:
        pipeline: a loaded text-to-image pipeline: anything with `unet`, `vae`, `tokenizer`, `text_encoder`
            and `scheduler`.
        vocabulary: every word the model knows, if it is a closed set; other words in a prompt give a notice.
        device: where it works; by default where its UNet is.
        few_step: whether it was distilled to few steps, or how it samples then; None to go by its scheduler.
        offload: keep only the part at work on the device and the others in main memory. Text encoder, autoencoder and
            UNet take turns a few times per edit, so the largest of them has to fit.
        fingerprint: computes the fingerprint; by default from the weights in memory.

    Raises:
        ModelError: a part is missing, or the UNet is not a text-to-image one with self-attention in its decoder.
    """

    points: Mapping[str, str] = {
        ATTENTION: "queries and keys of the decoder's self-attention",
        BLOCK: "the output of a decoder residual block, which holds the layout",
        RESIDUAL: "what that block adds to its shortcut, as in Plug-and-Play's published code",
    }

    def __init__(
        self,
        pipeline: Any,
        vocabulary: Vocabulary | None = None,
        *,
        device: torch.device | None = None,
        few_step: bool | FewStep | None = None,
        offload: bool = False,
        fingerprint: Callable[[], str] | None = None,
    ) -> None:
        check_parts(pipeline, PARTS, "Stable Diffusion")
        _check_channels(pipeline)
        self._pipeline = pipeline
        self._unet = pipeline.unet
        vae = pipeline.vae
        text_encoders = _text_encoders(pipeline)
        super().__init__(
            self._unet,
            vae,
            [encoder for _, encoder in text_encoders],
            device=device,
            offload=offload,
            fingerprint=fingerprint,
        )
        self._is_xl = self._unet.config.addition_embed_type == "text_time"
        self._zeros_for_empty = self._is_xl and bool(pipeline.config.get("force_zeros_for_empty_prompt"))
        self._vocabulary = vocabulary
        self._adapters: dict[str, IPAdapter] = {}
        self._adapter_fingerprints: dict[str, str] = {}
        convert = pipeline.maybe_convert_prompt
        self._text = ClipTextEncoders(text_encoders, self._is_xl, self._ready, self.device, convert)
        scheduler = pipeline.scheduler
        scheduler_class = type(scheduler).__name__
        self._diffusion = DiffusionSchedule(
            {**_betas_of_its_own(scheduler), "_class_name": scheduler_class},
            few_step_of(scheduler_class, scheduler.config, few_step),
        )
        self.schedule: Schedule = self._diffusion
        self.guidance: GuidanceKind = self._kind_of_guidance()
        self.sites = tuple(find_sites(self._unet))
        self._points = find_injection_points(self._unet, self.sites)
        block: Any = self._points.block
        self._modules: dict[str, nn.Module] = {BLOCK: block, RESIDUAL: block.conv2}
        self.latent_channels = self._autoencoder.channels
        self.inpaints = is_inpainting(self._unet.config.in_channels, self.latent_channels)
        self._nothing_shown = lru_cache(maxsize=1)(self._shown_nothing)
        self.size_multiple = self.pixels_per_latent * coarsest_scale(self._unet)
        self.native_size = self.pixels_per_latent * _native_latents(self._unet.config.sample_size, self._is_xl)
        if self._is_xl and vae.dtype == torch.float16 and vae.config.get("force_upcast"):
            # SDXL's autoencoder overflows in half precision, to black images. diffusers defaults to True for every
            # autoencoder, and its text-to-image pipelines heed it for SDXL alone.
            upcast(vae)

    def _kind_of_guidance(self) -> GuidanceKind:
        """LCM is told the scale, Turbo was distilled without one; all others have branches."""
        if self._unet.config.time_cond_proj_dim is not None:
            return "embedded"
        few_step = self.schedule.few_step
        return "none" if few_step is not None and few_step.max_scale == 1 else "branches"

    @property
    def network(self) -> Any:
        """The network itself, a diffusers UNet: `find_injection_points` (models/unet.py) names its parts."""
        return self._unet

    @property
    def blocks(self) -> list[nn.Module]:
        """Residual and transformer blocks, but for the one in which features are injected."""
        return blocks_without(self._unet, self._points.block)

    def condition(self, prompt: str, *, size: tuple[int, int] | None = None, negative: bool = False) -> Conditioning:
        """The text encoder's last states, 1 n c; of SDXL's two encoders the last but one, the pooled state, and sizes.

        SDXL is told the size of the frames as original and target size (Podell et al., ICLR 2024, section 2.2), and
        takes zeros for an empty negative prompt if its configuration says so. Weights and long prompts are in
        models/clip_text.py.
        """
        notice_unknown_words(plain_text(prompt), self._vocabulary)
        with self._turn:
            text = self._text(prompt)
        states, pooled, padding = text.states, text.pooled, text.padding
        if pooled is None:
            return Conditioning(states, padding=padding)
        if negative and not prompt and self._zeros_for_empty:
            states, pooled = torch.zeros_like(states), torch.zeros_like(pooled)
            padding = states
        width, height = size or (self.native_size, self.native_size)
        sizes = torch.tensor([[height, width, 0, 0, height, width]], device=self.device)  # original, crop, target
        return Conditioning(states, {"text_embeds": pooled, "time_ids": sizes.to(pooled)}, padding=padding)

    def predict(
        self,
        latents: Tensor,
        level: Level,
        conditioning: Conditioning,
        *,
        attention: AttentionOverride | None = None,
        inject: Injection = EMPTY,
    ) -> Tensor:
        """The network's prediction under each branch: b f c h w."""
        if attention is None and inject.queries_keys:
            attention = per_frame_attention(inject)
        forwards = {self._modules[point]: _constant_forward(features) for point, features in inject.features.items()}
        if BLOCK in inject.features:
            forwards |= self._points.bypassed
        with (
            self._turn,
            patched(attention_processors(self._unet, self.sites, UNetAttention, attention), forwards=forwards),
        ):
            output = self._call(latents, level, conditioning, inject)
        if self._diffusion.prediction_type == "sample":  # x₀ → noise, which stays defined on clean latents
            return (latents.to(output) - level.signal * output) / level.noise
        return output

    def capture(self, latents: Tensor, level: Level, conditioning: Conditioning, wanted: Collection[str]) -> Injection:
        """Features at some injection points, with an early exit behind the last of them.

        Raises:
            ValueError: a point is not one of `points`.
        """
        check_points(wanted, self.points)
        if not wanted:
            return EMPTY
        capture = Capture(wanted, self._points.attention)
        hooks = {self._modules[point]: capture.hook(point) for point in wanted if point != ATTENTION}
        self._run_until_done(latents, level, conditioning, capture.override, hooks)
        return capture.injection

    def training_prediction(self, noisy: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
        """The UNet's output with gradients: b c h w."""
        with self._turn:
            return self._run(noisy, times.to(self.device), conditioning, EMPTY).float()

    def features(self, latents: Tensor, level: Level, conditioning: Conditioning) -> Tensor:
        """The tokens that enter the decoder's self-attention at its finest level: f d h w."""
        finest = min((site for site in self.sites if site.name in self._points.attention), key=lambda site: site.scale)
        kept: list[Tensor] = []

        def keep(call: AttentionCall) -> Tensor:
            if call.site == finest:
                kept.append(call.tokens)
                raise CaptureDone
            return per_frame_attention()(call)

        self._run_until_done(latents, level, conditioning, keep, {})
        rows, columns = finest.grid(*latents.shape[-2:])
        return kept[0].float().transpose(1, 2).unflatten(-1, (rows, columns))

    def text_change(self, latents: Tensor, level: Level, conditioning: Conditioning, other: Conditioning) -> Tensor:
        """How much of the cross-attention another text would change, f h w: 0 for nothing (models/text_change.py)."""
        size = latents.shape[-2], latents.shape[-1]
        grids = text_grids(self._unet, self.sites, size)
        compared = TextChange(grids, size, AttnProcessor2_0(), other.tokens)
        with self._turn, patched(compared.processors):
            self._call(latents, level, conditioning)
        return compared.change

    def _run_until_done(
        self,
        latents: Tensor,
        level: Level,
        conditioning: Conditioning,
        attention: AttentionOverride | None,
        hooks: dict[nn.Module, Hook],
    ) -> None:
        """Run the UNet until an override or hook has captured the last of what is wanted."""
        processors = attention_processors(self._unet, self.sites, UNetAttention, attention)
        with self._turn, patched(processors, hooks), suppress(CaptureDone):
            self._call(latents, level, conditioning)

    def _open_control_network(self, path: str, detector: str) -> Any:
        return load_controlnet(path, detector, self._unet, self.pixels_per_latent, self.device)

    def as_control(self, network: Any, detector: str, encode: Callable[[Tensor], Tensor]) -> Control:
        """A ControlNet, which takes images, or a T2I-Adapter."""
        return unet_control(network, detector, self.device)

    def load_ip_adapter(self, path: str) -> ImagePrompt:
        """The IP-Adapter in a file, also on the Hub (models/ip_adapter.py); read again once it has changed."""
        with self._turn:
            fingerprint = path_fingerprint(path)
            if self._adapter_fingerprints.get(path) != fingerprint:  # its file may have been replaced
                self._adapters[path] = load_adapter(path, self._pipeline)
                self._adapter_fingerprints[path] = fingerprint
            adapter = self._adapters[path]

        def read(images: Sequence[np.ndarray], weights: Sequence[float]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
            with self._turn:
                return added_images(path, adapter, images, weights)

        return read

    def _call(self, latents: Tensor, level: Level, conditioning: Conditioning, inject: Injection = EMPTY) -> Tensor:
        """The UNet's raw output, b f c h w in float32."""
        branches, frames = conditioning.branches, len(latents)
        with torch.no_grad():
            repeated = latents.repeat(branches, 1, 1, 1)
            output = self._run(repeated, int(level.time), conditioning.for_frames(frames), inject)
        return output.float().unflatten(0, (branches, frames))

    def _run(self, latents: Tensor, time: int | Tensor, per_frame: Conditioning, inject: Injection) -> Tensor:
        """The UNet's raw output for (b f) c h w, each with its own conditioning."""
        dtype, residuals = self._unet.dtype, inject.residuals
        added: dict[str, Any] = {"timestep_cond": self._embedded_scale(per_frame)}
        if residuals is not None:
            if residuals.skips:
                added["down_block_additional_residuals"] = residuals.skips
                added["mid_block_additional_residual"] = residuals.middle
            if residuals.features:  # a list, which the UNet empties
                added["down_intrablock_additional_residuals"] = [*residuals.features]
        with patched(image_processors(per_frame, self._adapters)):
            output: Tensor = self._ready(self._unet)(
                self._with_surroundings(latents.to(self.device, dtype), inject.surroundings),
                time,
                encoder_hidden_states=per_frame.tokens.to(dtype),
                added_cond_kwargs=_known_to_unet(per_frame.added) or None,
                return_dict=False,
                **added,
            )[0]
        return output

    def _with_surroundings(self, latents: Tensor, surroundings: Tensor | None) -> Tensor:
        """Latents (b f) c h w with what an inpainting UNet is shown beside them, (b f) (2c + 1) h w."""
        if not self.inpaints:
            return latents
        height, width = latents.shape[-2:]
        shown = self._nothing_shown(height, width) if surroundings is None else surroundings
        return torch.cat([latents, repeat_branches(shown.to(latents), latents)], dim=1)

    def _shown_nothing(self, height: int, width: int) -> Tensor:
        return nothing_shown(self._autoencoder.encode, height, width, self.pixels_per_latent)

    def _embedded_scale(self, conditioning: Conditioning) -> Tensor | None:
        """Sinusoids of the scale of guidance, (b f) w, for a network that is told it (Luo et al., 2023); else None."""
        if self.guidance != "embedded":
            return None
        default = torch.full([conditioning.branches], DEFAULT_SCALE, device=self.device)
        scales = conditioning.added.get(SCALE, default)  # (b f)
        width = self._unet.config.time_cond_proj_dim
        # LCM is trained with the weight of the difference, which is the scale less one.
        return get_timestep_embedding(1000 * (scales - 1), width, downscale_freq_shift=1).to(self._unet.dtype)


def _betas_of_its_own(scheduler: Any) -> dict[str, Any]:
    """A scheduler's configuration, without the betas that `from_config` leaves in one that has other noise levels."""
    takes_betas = "beta_start" in signature(type(scheduler).__init__).parameters
    return {name: value for name, value in scheduler.config.items() if takes_betas or "beta" not in name}


def _known_to_unet(added: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of what a conditioning adds, what the UNet takes by name."""
    return {name: each for name, each in added.items() if name != SCALE and not is_of_images(name)}


def _constant_forward(features: Tensor) -> Forward:
    """A forward that returns these features (f d h w) in every branch, whatever its input."""

    def forward(hidden: Tensor, *_: Any) -> Tensor:
        return repeat_branches(features.to(hidden), hidden)

    return forward


def _check_channels(pipeline: Any) -> None:
    expected, encoded = pipeline.unet.config.in_channels, pipeline.vae.config.latent_channels
    if is_inpainting(expected, encoded):
        return
    if expected in CHANNELS:
        raise ModelError(
            f"the model is {CHANNELS[expected]}; expected a plain text-to-image model: choose another model.path"
        )
    if expected != encoded:
        raise ModelError(
            f"the UNet takes {expected} channels but the VAE has {encoded}; expected a VAE made for this UNet: "
            "choose another model.path or model.vae"
        )


def _native_latents(configured: int | Sequence[int] | None, is_xl: bool) -> int:
    """Latents along each side of the images that a UNet was trained on; those of the original if it does not say."""
    if configured is None:
        return XL_LATENTS if is_xl else LATENTS
    return configured if isinstance(configured, int) else max(configured)


def _text_encoders(pipeline: Any) -> list[tuple[Any, Any]]:
    """The pipeline's pairs of tokenizer and text encoder: one in SD 1.x and 2.x, two in SDXL."""
    names = [("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")]
    pairs = [(getattr(pipeline, first, None), getattr(pipeline, second, None)) for first, second in names]
    return [(tokenizer, encoder) for tokenizer, encoder in pairs if tokenizer is not None and encoder is not None]
