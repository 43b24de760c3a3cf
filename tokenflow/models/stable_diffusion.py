"""Stable Diffusion 1.x, 2.x and XL (UNet with cross-attention, AutoencoderKL, CLIP text encoders) through diffusers.

Knows how such a pipeline is called; how its UNet is built is in unet.py. Knows no clip, no mode and no propagation.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel
from torch import Tensor, nn

from tokenflow.diffusion.schedules import Schedule
from tokenflow.errors import ModelError, ModelNotFoundError, TokenflowWarning
from tokenflow.models.attention import (
    NOTHING,
    AttentionOverride,
    Features,
    Forward,
    Hook,
    Injection,
    QueriesKeys,
    SelfAttention,
    Site,
    override_attention,
    per_frame_attention,
    project,
    repeat_branches,
)
from tokenflow.models.model import Conditioning, Control
from tokenflow.models.reasons import DAMAGED, first_line, hub_reason
from tokenflow.models.unet import coarsest_scale, find_injection_points, find_sites
from tokenflow.models.vocabulary import Vocabulary

ALIGNMENT = 64
"""Bytes that torch aligns its own tensors to on a CPU."""


class StableDiffusion:
    """A Stable Diffusion pipeline of diffusers as a `Model` (see models/base.py for its methods).

    Args:
        pipeline: a loaded text-to-image pipeline: anything with `unet`, `vae`, `tokenizer`, `text_encoder`
            and `scheduler`.
        vocabulary: every word it knows, if those are few; others in a prompt give a warning.
        device: where it works; by default where its UNet is.
        offload: keep on the device only the part at work, the others in main memory. Text encoder, autoencoder and UNet
            take turns a few times an edit, so that the largest of them is what has to fit.

    Raises:
        ModelError: a part is missing, or the UNet is not a text-to-image one with self-attention in its decoder.
    """

    def __init__(
        self,
        pipeline: Any,
        vocabulary: Vocabulary | None = None,
        *,
        device: torch.device | None = None,
        offload: bool = False,
    ) -> None:
        _check_parts(pipeline)
        self._unet = pipeline.unet
        self._vae = pipeline.vae
        self._text_encoders = _text_encoders(pipeline)
        for network in (self._unet, self._vae, *(encoder for _, encoder in self._text_encoders)):
            _prepare(network)
        self._is_xl = self._unet.config.addition_embed_type == "text_time"
        self._vocabulary = vocabulary
        self.device: torch.device = device or self._unet.device
        self._offload = offload
        self._at_work: nn.Module | None = None
        self._control: tuple[str, Any] | None = None
        self.schedule = Schedule(pipeline.scheduler.config)
        self.sites = tuple(find_sites(self._unet))
        self._points = find_injection_points(self._unet, self.sites)
        self._features: dict[Features, Any] = {"block": self._points.block, "residual": self._points.block.conv2}
        self._vae_scale = 2 ** (len(self._vae.config.block_out_channels) - 1)
        self.size_multiple = self._vae_scale * coarsest_scale(self._unet)
        self.native_size = self._vae_scale * self._unet.config.sample_size
        if self._is_xl and self._vae.dtype == torch.float16 and self._vae.config.force_upcast:
            # SDXL's overflows in half precision, to black pictures. diffusers has True for every autoencoder that says
            # nothing, and its text-to-image pipelines heed it for SDXL alone.
            self._vae.to(torch.float32)

    def encode(self, frames: Tensor) -> Tensor:
        """Latents f c h w of frames f 3 H W in [0, 1]: the mean of the autoencoder's posterior, scaled."""
        config = self._vae.config
        with torch.no_grad():
            posterior = self._ready(self._vae).encode(frames.to(self.device, self._vae.dtype) * 2 - 1).latent_dist
            latents = (posterior.mode().float() - (config.shift_factor or 0.0)) * config.scaling_factor
        return self._finite(latents)

    def decode(self, latents: Tensor) -> Tensor:
        """Frames f 3 H W in [0, 1] of latents f c h w."""
        config = self._vae.config
        with torch.no_grad():
            scaled = latents / config.scaling_factor + (config.shift_factor or 0.0)
            pictures = self._ready(self._vae).decode(scaled.to(self.device, self._vae.dtype)).sample
        return (self._finite(pictures.float()) / 2 + 0.5).clamp(0, 1)

    def _finite(self, values: Tensor) -> Tensor:
        """What the autoencoder gave.

        Raises:
            ModelError: its precision is too small for it, or what came in was no number.
        """
        if not values.isfinite().all():
            raise ModelError(
                f"the autoencoder gave values that are no numbers, in {self._vae.dtype}; expected finite ones. Some "
                "models overflow in half precision: set model.dtype to float32 or bfloat16"
            )
        return values

    def encode_prompt(self, prompt: str) -> Conditioning:
        """The text encoder's last states, 1 n c; of SDXL's two encoders the last but one, and the pooled state."""
        self._warn_of_unknown_words(prompt)
        with torch.no_grad():
            outputs = [
                self._ready(encoder)(self._tokens(tokenizer, prompt), output_hidden_states=True)
                for tokenizer, encoder in self._text_encoders
            ]
        if not self._is_xl:
            return Conditioning(outputs[0].last_hidden_state)
        side = self.native_size
        sizes = torch.tensor([[side, side, 0, 0, side, side]], device=self.device)  # original size, crop, target size
        added = {"text_embeds": outputs[-1].text_embeds, "time_ids": sizes.to(outputs[-1].text_embeds)}
        return Conditioning(torch.cat([output.hidden_states[-2] for output in outputs], dim=-1), added)

    def _ready(self, network: Any) -> Any:
        """A part on the device; where idle ones are offloaded, alone there."""
        if self._offload and network is not self._at_work:
            if self._at_work is not None:
                self._at_work.to("cpu")
            self._at_work = network.to(self.device)
        return network

    def _warn_of_unknown_words(self, prompt: str) -> None:
        unknown = self._vocabulary.unknown(prompt) if self._vocabulary else []
        if unknown:
            warnings.warn(
                f"this model has never seen {', '.join(map(repr, unknown))} of the prompt {prompt!r}; it knows "
                f"{self._vocabulary}",
                TokenflowWarning,
                stacklevel=3,
            )

    def _tokens(self, tokenizer: Any, prompt: str) -> Tensor:
        """A prompt's tokens, 1 n; what does not fit is cut off with a warning."""
        length = tokenizer.model_max_length
        whole = tokenizer(prompt, truncation=False, verbose=False, return_tensors="pt").input_ids
        if whole.shape[1] > length:
            warnings.warn(
                f"the prompt {prompt!r} is longer than the {length} tokens this model reads; it does not see: "
                f"{tokenizer.decode(whole[0, length - 1 : -1])!r}. Shorten the prompt",
                TokenflowWarning,
                stacklevel=3,
            )
        padded = tokenizer(prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        return padded.input_ids.to(self.device)

    def predict(
        self,
        latents: Tensor,
        timestep: int,
        conditioning: Conditioning,
        *,
        strategy: AttentionOverride | None = None,
        injection: Injection = NOTHING,
    ) -> Tensor:
        """The noise in the latents under each branch: b f c h w."""
        if strategy is None and injection.queries_keys:
            strategy = per_frame_attention(injection)
        forward_overrides = {
            self._features[place]: _constant_forward(features) for place, features in injection.features.items()
        }
        if "block" in injection.features:
            forward_overrides |= self._points.bypassed
        with override_attention(self._unet, self.sites, strategy, forward_overrides=forward_overrides):
            output = self._call(latents, timestep, conditioning, injection)
        return self.schedule.noise(output, latents.to(output), timestep)

    def read(
        self, latents: Tensor, timestep: int, conditioning: Conditioning, *, attention: bool, features: Features | None
    ) -> Injection:
        """Queries and keys of the injected sites and the injected features, with an early exit behind the last read."""
        kept: dict[Features, Tensor] = {}
        queries_keys: dict[str, QueriesKeys] = {}

        def keep_features(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            if features:
                kept[features] = output
            if not attention:
                raise _EnoughRead

        def keep_queries_keys(site: Site, layer: SelfAttention, tokens: Tensor) -> Tensor:
            queries, keys, values = project(site, layer, tokens)
            if site.name in self._points.attention:
                queries_keys[site.name] = queries, keys
            if site.name == self._points.attention[-1]:
                raise _EnoughRead
            return layer.attend(queries, keys, values)

        if not (attention or features):
            return NOTHING
        hooks: dict[nn.Module, Hook] = {self._features[features]: keep_features} if features else {}
        try:
            with override_attention(self._unet, self.sites, keep_queries_keys if attention else None, hooks):
                self._call(latents, timestep, conditioning, NOTHING)
        except _EnoughRead:
            pass
        return Injection(queries_keys, kept)

    def features(self, latents: Tensor, timestep: int, conditioning: Conditioning) -> Tensor:
        """The tokens that enter the decoder's self-attention at its finest level: f d h w."""
        finest = min((site for site in self.sites if site.name in self._points.attention), key=lambda site: site.scale)
        kept: list[Tensor] = []

        def keep(site: Site, layer: SelfAttention, tokens: Tensor) -> Tensor:
            if site == finest:
                kept.append(tokens)
                raise _EnoughRead
            return layer.attend(*project(site, layer, tokens))

        try:
            with override_attention(self._unet, self.sites, keep):
                self._call(latents, timestep, conditioning, NOTHING)
        except _EnoughRead:
            pass
        rows, columns = finest.grid(*latents.shape[-2:])
        return kept[0].float().transpose(1, 2).unflatten(-1, (rows, columns))

    def load_control(self, path: str) -> Control:
        """The ControlNet at a folder or hub id, on this model's device and in its precision; the last one is kept."""
        if self._control is None or self._control[0] != path:
            self._control = None  # so that two never need memory at once
            self._control = path, self._control_network(path)
        network = self._control[1]

        def control(
            latents: Tensor, timestep: int, conditioning: Conditioning, pictures: Tensor
        ) -> tuple[tuple[Tensor, ...], Tensor]:
            branches, dtype = conditioning.branches, network.dtype
            with torch.no_grad():
                per_frame = conditioning.for_frames(len(latents))
                down, middle = network(
                    latents.to(self.device, dtype).repeat(branches, 1, 1, 1),
                    timestep,
                    encoder_hidden_states=per_frame.tokens.to(dtype),
                    added_cond_kwargs=dict(per_frame.added) or None,
                    controlnet_cond=pictures.to(self.device, dtype).repeat(branches, 1, 1, 1),
                    return_dict=False,
                )
            return tuple(down), middle

        return control

    def _control_network(self, path: str) -> Any:
        wanted = (
            "expected a folder with config.json and safetensors weights, or the id of one on the hub: set "
            "edit.controlnet.path"
        )
        try:
            config = ControlNetModel.load_config(path)
        except OSError as error:
            reason = (
                "it has no config.json" if Path(path).is_dir() else f"it is no folder here, and {hub_reason(error)}"
            )
            raise ModelNotFoundError(f"there is no ControlNet at {path!r}: {reason}; {wanted}") from error
        self._check_control(config, path)
        try:
            network = ControlNetModel.from_pretrained(path, dtype=self._unet.dtype, use_safetensors=True)
        except DAMAGED as error:
            raise ModelError(f"the ControlNet at {path!r} cannot be loaded ({first_line(error)}); {wanted}") from error
        _prepare(network.to(self.device))
        return network

    def _check_control(self, config: Mapping[str, Any], path: str) -> None:
        if config.get("_class_name") != "ControlNetModel":
            raise ModelError(
                f"{path!r} is a {config.get('_class_name', 'model of no name')}; expected a ControlNetModel: set "
                "edit.controlnet.path"
            )
        ours = self._unet.config
        shrinks = 2 ** (len(config["conditioning_embedding_out_channels"]) - 1)
        for what, came, expected in (
            ("cross-attention width", config["cross_attention_dim"], ours.cross_attention_dim),
            ("number of latent channels", config["in_channels"], ours.in_channels),
            ("list of widths", tuple(config["block_out_channels"]), tuple(ours.block_out_channels)),
            ("number of layers a block", config["layers_per_block"], ours.layers_per_block),
            ("factor from pixels to latents", shrinks, self._vae_scale),
        ):
            if came != expected:
                raise ModelError(
                    f"the ControlNet at {path!r} was made for another model: its {what} is {came}, the model's "
                    f"{expected}; choose one that was trained for this model in edit.controlnet.path"
                )

    def _call(self, latents: Tensor, timestep: int, conditioning: Conditioning, injection: Injection) -> Tensor:
        """The UNet's raw output, b f c h w in float32."""
        branches, frames = conditioning.branches, len(latents)
        per_frame = conditioning.for_frames(frames)
        dtype = self._unet.dtype
        control: dict[str, Any] = {}
        if injection.control is not None:
            down, middle = injection.control
            control = {"down_block_additional_residuals": down, "mid_block_additional_residual": middle}
        with torch.no_grad():
            output = self._ready(self._unet)(
                latents.to(self.device, dtype).repeat(branches, 1, 1, 1),
                timestep,
                encoder_hidden_states=per_frame.tokens.to(dtype),
                added_cond_kwargs=dict(per_frame.added) or None,
                return_dict=False,
                **control,
            )[0]
        return output.float().unflatten(0, (branches, frames))


def _prepare(network: nn.Module) -> None:
    """For use only; and with its weights where torch itself would put them in memory.

    Matrix products round differently on memory that is not aligned, and where a file's tensors come to lie differs from
    one load to the next: the same edit would not give the same pixels again.
    """
    network.eval().requires_grad_(False)
    for parameter in network.parameters():
        if parameter.data_ptr() % ALIGNMENT:
            parameter.data = parameter.data.clone()


class _EnoughRead(Exception):  # noqa: N818 - a signal, not an error
    """Raised inside the UNet to leave it behind the last layer that is read."""


def _constant_forward(features: Tensor) -> Forward:
    """What a module does that gives these features (f d h w) in every branch, whatever comes in."""

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
            f"the model has no {', '.join(missing)}; expected a text-to-image pipeline of the "
            "Stable Diffusion family: choose another model.path"
        )
    takes, gives = pipeline.unet.config.in_channels, pipeline.vae.config.latent_channels
    if takes != gives:
        raise ModelError(
            f"the UNet takes {takes} channels where the autoencoder gives {gives}: it is an inpainting or depth model; "
            "expected a plain text-to-image one: choose another model.path"
        )


def _text_encoders(pipeline: Any) -> list[tuple[Any, Any]]:
    """The pipeline's pairs of tokenizer and text encoder: one in SD 1.x and 2.x, two in SDXL."""
    names = [("tokenizer", "text_encoder"), ("tokenizer_2", "text_encoder_2")]
    pairs = [(getattr(pipeline, first, None), getattr(pipeline, second, None)) for first, second in names]
    return [(tokenizer, encoder) for tokenizer, encoder in pairs if tokenizer is not None and encoder is not None]
