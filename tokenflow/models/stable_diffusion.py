"""Stable Diffusion 1.x, 2.x and XL through diffusers: UNet with cross-attention, AutoencoderKL, CLIP text encoders."""

from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import cached_property
from threading import RLock
from typing import Any

import torch
from torch import Tensor, nn

from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.guidance import GuidanceKind
from tokenflow.diffusion.levels import Level
from tokenflow.diffusion.schedules import DiffusionSchedule, Schedule
from tokenflow.errors import ModelError
from tokenflow.events import notice
from tokenflow.models.attention import AttentionCall, AttentionOverride, attend_within_frames, per_frame_attention
from tokenflow.models.controlnet import UNetControl, load_controlnet
from tokenflow.models.identity import weights_fingerprint
from tokenflow.models.injection import ATTENTION, EMPTY, Injection, QueriesKeys, repeat_branches
from tokenflow.models.model import Control
from tokenflow.models.patching import Forward, Hook, patched
from tokenflow.models.placement import Offloading, prepare
from tokenflow.models.text_change import TextChange
from tokenflow.models.unet import attention_processors, coarsest_scale, find_injection_points, find_sites
from tokenflow.models.vocabulary import Vocabulary

BLOCK, RESIDUAL = "block", "residual"
"""Injection points of a UNet beside `ATTENTION`."""


class StableDiffusion:
    """A Stable Diffusion pipeline of diffusers as a `Model` (see models/model.py for its methods).

    Args:
        pipeline: a loaded text-to-image pipeline: anything with `unet`, `vae`, `tokenizer`, `text_encoder`
            and `scheduler`.
        vocabulary: every word the model knows, if it is a closed set; other words in a prompt give a notice.
        device: where it works; by default where its UNet is.
        offload: keep only the part at work on the device and the others in main memory. Text encoder, autoencoder and
            UNet take turns a few times per edit, so the largest of them has to fit.
        fingerprint: computes the fingerprint; by default from the weights in memory.

    Raises:
        ModelError: a part is missing, or the UNet is not a text-to-image one with self-attention in its decoder.
    """

    guidance: GuidanceKind = "branches"
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
        offload: bool = False,
        fingerprint: Callable[[], str] | None = None,
    ) -> None:
        _check_parts(pipeline)
        self._unet = pipeline.unet
        self._vae = pipeline.vae
        self._text_encoders = _text_encoders(pipeline)
        networks = [self._unet, self._vae, *(encoder for _, encoder in self._text_encoders)]
        for network in networks:
            prepare(network)
        self._is_xl = self._unet.config.addition_embed_type == "text_time"
        self._zeros_for_empty = self._is_xl and bool(pipeline.config.get("force_zeros_for_empty_prompt"))
        self._vocabulary = vocabulary
        self._fingerprint = fingerprint or (lambda: weights_fingerprint(networks))
        self._turn = RLock()
        self._control: UNetControl | None = None
        self.device: torch.device = device or self._unet.device
        self._ready = Offloading(self.device, enabled=offload)
        self._diffusion = DiffusionSchedule(pipeline.scheduler.config)
        self.schedule: Schedule = self._diffusion
        self.sites = tuple(find_sites(self._unet))
        self._points = find_injection_points(self._unet, self.sites)
        block: Any = self._points.block
        self._modules: dict[str, nn.Module] = {BLOCK: block, RESIDUAL: block.conv2}
        self.pixels_per_latent = 2 ** (len(self._vae.config.block_out_channels) - 1)
        self.latent_channels: int = self._vae.config.latent_channels
        self.size_multiple = self.pixels_per_latent * coarsest_scale(self._unet)
        self.native_size = self.pixels_per_latent * self._unet.config.sample_size
        if self._is_xl and self._vae.dtype == torch.float16 and self._vae.config.force_upcast:
            # SDXL's autoencoder overflows in half precision, to black images. diffusers defaults to True for every
            # autoencoder, and its text-to-image pipelines heed it for SDXL alone.
            self._vae.to(torch.float32)

    @property
    def unet(self) -> Any:
        """The network itself, a diffusers UNet: `find_injection_points` (models/unet.py) names its parts."""
        return self._unet

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with weights, precision and revision."""
        return self._fingerprint()

    def encode(self, frames: Tensor) -> Tensor:
        """Latents f c h w of frames f 3 H W in [0, 1]: the mean of the autoencoder's posterior, scaled."""
        config = self._vae.config
        with self._turn, torch.no_grad():
            posterior = self._ready(self._vae).encode(frames.to(self.device, self._vae.dtype) * 2 - 1).latent_dist
            latents = (posterior.mode().float() - (config.shift_factor or 0.0)) * config.scaling_factor
        return self._finite(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """Frames f 3 H W in [0, 1] of latents f c h w."""
        config = self._vae.config
        with self._turn, torch.no_grad():
            scaled = latents / config.scaling_factor + (config.shift_factor or 0.0)
            images = self._ready(self._vae).decode(scaled.to(self.device, self._vae.dtype)).sample
        return (self._finite(images.float()) / 2 + 0.5).clamp(0, 1)

    def _finite(self, values: Tensor) -> Tensor:
        """The autoencoder's output.

        Raises:
            ModelError: its precision overflowed, or the input was not finite.
        """
        if not values.isfinite().all():
            raise ModelError(
                f"the VAE produced NaN or inf in {self._vae.dtype}; expected finite values. Some models overflow in "
                "half precision: set model.dtype to float32 or bfloat16"
            )
        return values

    def condition(self, prompt: str, *, size: tuple[int, int] | None = None, negative: bool = False) -> Conditioning:
        """The text encoder's last states, 1 n c; of SDXL's two encoders the last but one, the pooled state, and sizes.

        SDXL is told the size of the frames as original and target size (Podell et al., ICLR 2024, section 2.2), and
        takes zeros for an empty negative prompt if its configuration says so.
        """
        self._notice_unknown_words(prompt)
        with self._turn, torch.no_grad():
            outputs = [
                self._ready(encoder)(self._tokenize(tokenizer, prompt), output_hidden_states=True)
                for tokenizer, encoder in self._text_encoders
            ]
        if not self._is_xl:
            return Conditioning(outputs[0].last_hidden_state)
        states, pooled = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1), outputs[-1].text_embeds
        if negative and not prompt and self._zeros_for_empty:
            states, pooled = torch.zeros_like(states), torch.zeros_like(pooled)
        width, height = size or (self.native_size, self.native_size)
        sizes = torch.tensor([[height, width, 0, 0, height, width]], device=self.device)  # original, crop, target
        return Conditioning(states, {"text_embeds": pooled, "time_ids": sizes.to(pooled)})

    def _notice_unknown_words(self, prompt: str) -> None:
        unknown = self._vocabulary.unknown(prompt) if self._vocabulary else []
        if unknown:
            notice(
                f"this model has never seen {', '.join(map(repr, unknown))} of the prompt {prompt!r}; it knows "
                f"{self._vocabulary}"
            )

    def _tokenize(self, tokenizer: Any, prompt: str) -> Tensor:
        """A prompt's token ids, 1 n; what does not fit is cut off with a notice."""
        length = tokenizer.model_max_length
        whole = tokenizer(prompt, truncation=False, verbose=False, return_tensors="pt").input_ids
        if whole.shape[1] > length:
            notice(
                f"the prompt {prompt!r} is longer than the {length} tokens this model reads; it ignores "
                f"{tokenizer.decode(whole[0, length - 1 : -1])!r}. Shorten the prompt"
            )
        padded = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return padded.input_ids.to(self.device)

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
        with self._turn, patched(attention_processors(self._unet, self.sites, attention), forwards=forwards):
            output = self._call(latents, level, conditioning, inject.residuals)
        if self._diffusion.prediction_type == "sample":  # x₀ → noise, which stays defined on clean latents
            return (latents.to(output) - level.signal * output) / level.noise
        return output

    def capture(self, latents: Tensor, level: Level, conditioning: Conditioning, wanted: Collection[str]) -> Injection:
        """Features at some injection points, with an early exit behind the last of them.

        Raises:
            ValueError: a point is not one of `points`.
        """
        missing = set(wanted)
        if unknown := missing - set(self.points):
            raise ValueError(f"expected injection points among {', '.join(self.points)}; got {', '.join(unknown)}")
        features: dict[str, Tensor] = {}
        queries_keys: dict[str, QueriesKeys] = {}

        def leave_when_complete(point: str) -> None:
            missing.discard(point)
            if not missing:
                raise _CaptureDone

        def keep_features(point: str) -> Hook:
            def keep(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
                features[point] = output
                leave_when_complete(point)

            return keep

        def keep_queries_keys(call: AttentionCall) -> Tensor:
            queries, keys = call.queries_keys()
            if call.site.name in self._points.attention:
                queries_keys[call.site.name] = queries, keys
            if call.site.name == self._points.attention[-1]:
                leave_when_complete(ATTENTION)
            return attend_within_frames(call, queries, keys, call.values())

        if not wanted:
            return EMPTY
        hooks = {self._modules[point]: keep_features(point) for point in wanted if point != ATTENTION}
        self._run_until_done(latents, level, conditioning, keep_queries_keys if ATTENTION in wanted else None, hooks)
        return Injection(queries_keys, features)

    def features(self, latents: Tensor, level: Level, conditioning: Conditioning) -> Tensor:
        """The tokens that enter the decoder's self-attention at its finest level: f d h w."""
        finest = min((site for site in self.sites if site.name in self._points.attention), key=lambda site: site.scale)
        kept: list[Tensor] = []

        def keep(call: AttentionCall) -> Tensor:
            if call.site == finest:
                kept.append(call.tokens)
                raise _CaptureDone
            return per_frame_attention()(call)

        self._run_until_done(latents, level, conditioning, keep, {})
        rows, columns = finest.grid(*latents.shape[-2:])
        return kept[0].float().transpose(1, 2).unflatten(-1, (rows, columns))

    def text_change(self, latents: Tensor, level: Level, conditioning: Conditioning, other: Conditioning) -> Tensor:
        """How much of the cross-attention another text would change, f h w: 0 for nothing (models/text_change.py)."""
        height, width = latents.shape[-2:]
        compared = TextChange(self._unet, self.sites, (height, width), other.tokens)
        with self._turn, patched(compared.processors):
            self._call(latents, level, conditioning, None)
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
        processors = attention_processors(self._unet, self.sites, attention)
        with self._turn, patched(processors, hooks), suppress(_CaptureDone):
            self._call(latents, level, conditioning, None)

    def load_control(self, path: str) -> Control:
        """The ControlNet at a folder or Hub id, on this model's device and in its precision; the last one is kept."""
        with self._turn:
            if self._control is None or self._control.path != path:
                self._control = None  # so that two are never in memory at once
                network = load_controlnet(path, self._unet, self.pixels_per_latent, self.device)
                self._control = UNetControl(path, network, self.device)
            network_control = self._control

        def control(*arguments: Any) -> Any:
            with self._turn:
                return network_control(*arguments)

        return control

    def _call(self, latents: Tensor, level: Level, conditioning: Conditioning, residuals: Any) -> Tensor:
        """The UNet's raw output, b f c h w in float32."""
        branches, frames = conditioning.branches, len(latents)
        per_frame = conditioning.for_frames(frames)
        dtype = self._unet.dtype
        added: dict[str, Any] = {}
        if residuals is not None:
            down, middle = residuals
            added = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        with torch.no_grad():
            output = self._ready(self._unet)(
                latents.to(self.device, dtype).repeat(branches, 1, 1, 1),
                int(level.time),
                encoder_hidden_states=per_frame.tokens.to(dtype),
                added_cond_kwargs=dict(per_frame.added) or None,
                return_dict=False,
                **added,
            )[0]
        return output.float().unflatten(0, (branches, frames))


class _CaptureDone(Exception):  # noqa: N818 - a signal, not an error
    """Raised inside the UNet to leave it once everything wanted is captured."""


def _constant_forward(features: Tensor) -> Forward:
    """A forward that returns these features (f d h w) in every branch, whatever its input."""

    def forward(hidden: Tensor, *_: Any) -> Tensor:
        return repeat_branches(features.to(hidden), hidden)

    return forward


def _check_parts(pipeline: Any) -> None:
    missing = [
        part
        for part in ("unet", "vae", "tokenizer", "text_encoder", "scheduler")
        if getattr(pipeline, part, None) is None
    ]
    if missing:
        raise ModelError(
            f"the model has no {', '.join(missing)}; expected a text-to-image pipeline of the Stable Diffusion family: "
            "choose another model.path"
        )
    expected, encoded = pipeline.unet.config.in_channels, pipeline.vae.config.latent_channels
    if expected != encoded:
        raise ModelError(
            f"the UNet takes {expected} channels but the autoencoder has {encoded}: this is an inpainting or depth "
            "model; expected a plain text-to-image one: choose another model.path"
        )


def _text_encoders(pipeline: Any) -> list[tuple[Any, Any]]:
    """The pipeline's pairs of tokenizer and text encoder: one in SD 1.x and 2.x, two in SDXL."""
    names = [("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")]
    pairs = [(getattr(pipeline, first, None), getattr(pipeline, second, None)) for first, second in names]
    return [(tokenizer, encoder) for tokenizer, encoder in pairs if tokenizer is not None and encoder is not None]
