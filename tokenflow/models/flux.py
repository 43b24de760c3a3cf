"""FLUX.1 dev, schnell and Kontext through diffusers: joint transformer, AutoencoderKL, CLIP and T5."""

from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from diffusers import FluxKontextPipeline, FluxPipeline
from torch import Tensor

from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.few_step import flux_few_step
from tokenflow.diffusion.guidance import SCALE, GuidanceKind
from tokenflow.diffusion.schedules import FlowSchedule, Schedule
from tokenflow.errors import ModelError
from tokenflow.models.flux_controlnet import FluxControl, load_flux_controlnet
from tokenflow.models.injection import Injection
from tokenflow.models.joint_attention import JointAttention
from tokenflow.models.joint_transformer import LATENTS_PER_TOKEN, JointTransformer
from tokenflow.models.model import Control
from tokenflow.models.pipeline_model import check_parts
from tokenflow.models.prompt_weights import notice_unread_weights
from tokenflow.models.tokens import token_ids
from tokenflow.models.vocabulary import Vocabulary, notice_unknown_words

PARTS = ("transformer", "vae", "tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2", "scheduler")

AXES = 3
"""Of positions: the image (the frame itself, or one beside it), row and column."""

MAX_TOKENS: int = signature(FluxPipeline.__call__).parameters["max_sequence_length"].default
"""Of a prompt, which is padded to as many: padding takes part in attention."""

MAX_TOKENS_SCHNELL = 256

UNTOLD_SCALE = 1.0
"""Scale of embedded guidance where a conditioning does not say, as in inversion (Wang et al., ICML 2025)."""

OTHERS = {
    24: "FLUX.1 Fill, which needs a mask",
    8: "FLUX.1 Canny or Depth, which needs edges or a depth map in place of a ControlNet",
}
"""What a transformer is that takes so many times as many channels as a token has latents."""


class Flux(JointTransformer):
    """A FluxPipeline of diffusers as a `Model` (see models/model.py for its methods).

    Args:
        pipeline: a loaded FluxPipeline or FluxKontextPipeline.
        vocabulary: every word the model knows, if it is a closed set; other words in a prompt give a notice.
        device: where it works; by default where its transformer is.
        few_step: whether it was distilled to few steps, as schnell; None to go by its transformer and scheduler.
        offload: keep only the part at work on the device and the others in main memory.
        fingerprint: computes the fingerprint; by default from the weights in memory.

    Raises:
        ModelError: a part is missing, or the transformer takes other inputs than latents.
    """

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
        check_parts(pipeline, PARTS, "FLUX.1")
        _check_channels(pipeline)
        self._text_encoder, self._text_encoder_2 = pipeline.text_encoder, pipeline.text_encoder_2
        super().__init__(
            pipeline,
            [self._text_encoder, self._text_encoder_2],
            single=JointAttention,
            device=device,
            offload=offload,
            fingerprint=fingerprint,
        )
        told_scale, scheduler = self._transformer.config.guidance_embeds, pipeline.scheduler.config
        found = flux_few_step(scheduler, told_scale=told_scale, distilled=False, asked=few_step)
        self.schedule: Schedule = FlowSchedule(scheduler, found)
        without_scale: GuidanceKind = "none" if found else "branches"
        self.guidance: GuidanceKind = "embedded" if told_scale else without_scale
        self.instructs = isinstance(pipeline, FluxKontextPipeline)
        self._vocabulary = vocabulary
        self._max_tokens = min(
            MAX_TOKENS_SCHNELL if self.guidance == "none" else MAX_TOKENS, pipeline.tokenizer_2.model_max_length
        )

    def condition(self, prompt: str, *, size: tuple[int, int] | None = None, negative: bool = False) -> Conditioning:
        """T5's last states 1 n c, and CLIP's pooled state 1 c."""
        notice_unknown_words(prompt, self._vocabulary)
        notice_unread_weights(prompt)
        pipeline, tokenizer = self._pipeline, self._pipeline.tokenizer
        words = tokenizer(
            prompt, padding="max_length", max_length=tokenizer.model_max_length, truncation=True, return_tensors="pt"
        )  # of a long prompt CLIP reads the beginning, and T5 everything
        pieces = token_ids(pipeline.tokenizer_2, prompt, self._max_tokens).to(self.device)
        with self._turn, torch.no_grad():
            pooled = self._ready(self._text_encoder)(words.input_ids.to(self.device)).pooler_output
            states = self._ready(self._text_encoder_2)(pieces)[0]
        return Conditioning(states, {"pooled": pooled})

    def _open_control_network(self, path: str, detector: str) -> Any:
        return load_flux_controlnet(path, detector, self._transformer, self.device)

    def as_control(self, network: Any, detector: str, encode: Callable[[Tensor], Tensor]) -> Control:
        """A ControlNet, which takes latents of images, or images."""
        return FluxControl(network, self, encode, detector)

    def packed(self, latents: Tensor) -> Tensor:
        """Latents f c h w as the tokens f n c that the transformer and its ControlNets take."""
        return self._pack(latents.to(self.device))

    def positions(self, latents: Tensor, text_tokens: int) -> dict[str, Tensor]:
        """Where image and text tokens are, as the transformer and its ControlNets take it."""
        rows, columns = self.sites[0].grid(*latents.shape[-2:])
        return {"img_ids": self._image_ids(rows, columns, 0), "txt_ids": self._text_ids(text_tokens)}

    def prompt_inputs(self, conditioning: Conditioning, told_scale: bool) -> dict[str, Any]:
        """Pooled states, and the scale of guidance for a network that is told it."""
        count = conditioning.branches
        scale = conditioning.added.get(SCALE, torch.full([count], UNTOLD_SCALE, device=self.device))
        pooled = conditioning.added["pooled"].to(self._transformer.dtype)
        return {"pooled_projections": pooled, "guidance": scale if told_scale else None}

    def _more_inputs(self, conditioning: Conditioning, inject: Injection) -> dict[str, Any]:
        told_scale = self._transformer.config.guidance_embeds
        return self.prompt_inputs(conditioning, told_scale) | (inject.residuals or {})

    def _image_ids(self, rows: int, columns: int, place: int) -> Tensor:
        axes = (torch.arange(size, device=self.device, dtype=torch.float32) for size in (rows, columns))
        grid = torch.cartesian_prod(*axes)  # n 2
        return torch.cat([torch.full_like(grid[:, :1], place), grid], 1)

    def _text_ids(self, count: int) -> Tensor:
        return torch.zeros(count, AXES, device=self.device)


def _check_channels(pipeline: Any) -> None:
    expected, encoded = pipeline.transformer.config.in_channels, pipeline.vae.config.latent_channels
    if expected in [factor * encoded for factor in OTHERS]:
        raise ModelError(
            f"the model is {OTHERS[expected // encoded]}; expected FLUX.1 dev, schnell or Kontext: choose another "
            "model.path"
        )
    if expected != LATENTS_PER_TOKEN**2 * encoded:
        raise ModelError(
            f"the transformer takes {expected} channels but the autoencoder has {encoded}, of which a token has four "
            "times as many; expected the autoencoder that it was trained with: choose another model.path or model.vae"
        )
