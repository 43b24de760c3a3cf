"""FLUX.2 [klein], base and distilled, through diffusers: joint transformer, AutoencoderKLFlux2, Qwen3."""

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

import torch
from diffusers import Flux2KleinPipeline
from torch import Tensor

from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.few_step import flux_few_step
from tokenflow.diffusion.guidance import GuidanceKind
from tokenflow.diffusion.schedules import Flux2Schedule, Schedule
from tokenflow.errors import ModelError
from tokenflow.models.attention import AttentionCall, Memory, attend_within_frames
from tokenflow.models.autoencoder import BatchNormalised, unpatchify
from tokenflow.models.injection import Injection
from tokenflow.models.joint_attention import ParallelAttention
from tokenflow.models.joint_transformer import LATENTS_PER_TOKEN, JointTransformer
from tokenflow.models.patching import patched
from tokenflow.models.pipeline_model import check_parts
from tokenflow.models.prompt_weights import notice_unread_weights
from tokenflow.models.tokens import notice_long_prompt
from tokenflow.models.vocabulary import Vocabulary, notice_unknown_words

PARTS = ("transformer", "vae", "tokenizer", "text_encoder", "scheduler")

AXES = 4
"""Of positions: image, row, column, and place in the text."""

IMAGE_DISTANCE: int = signature(Flux2KleinPipeline._prepare_image_ids).parameters["scale"].default
"""Between an image and the next one beside it, on the first axis."""

MAX_TOKENS: int = signature(Flux2KleinPipeline.__call__).parameters["max_sequence_length"].default
"""Of a prompt, which is padded to as many: padding takes part in attention."""

STATES_AT = (1 / 4, 1 / 2, 3 / 4)
"""How deep in the text encoder the states lie that stand for a prompt: layers 9, 18 and 27 of 36."""

References = Mapping[str, Memory]
"""By site, the keys and values 1 r c of all reference images."""


class Flux2(JointTransformer):
    """A Flux2KleinPipeline of diffusers as a `Model` (see models/model.py for its methods).

    Args:
        pipeline: a loaded Flux2KleinPipeline.
        vocabulary: every word the model knows, if it is a closed set; other words in a prompt give a notice.
        device: where it works; by default where its transformer is.
        few_step: whether it was distilled to few steps; None for what its model_index.json says.
        offload: keep only the part at work on the device and the others in main memory.
        fingerprint: computes the fingerprint; by default from the weights in memory.

    Raises:
        ModelError: a part is missing, or transformer and autoencoder do not fit together.
    """

    instructs = True

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
        check_parts(pipeline, PARTS, "FLUX.2 [klein]")
        _check_channels(pipeline)
        super().__init__(
            pipeline,
            [pipeline.text_encoder],
            single=ParallelAttention,
            autoencoder=BatchNormalised,
            device=device,
            offload=offload,
            fingerprint=fingerprint,
        )
        distilled = bool(pipeline.config.get("is_distilled"))
        found = flux_few_step(pipeline.scheduler.config, told_scale=True, distilled=distilled, asked=few_step)
        self.schedule: Schedule = Flux2Schedule(pipeline.scheduler.config, found)
        self.guidance: GuidanceKind = "none" if found else "branches"
        self._vocabulary = vocabulary
        self._max_tokens = min(MAX_TOKENS, pipeline.tokenizer.model_max_length)
        layers = pipeline.text_encoder.config.num_hidden_layers
        self._text_layers = tuple(round(depth * layers) for depth in STATES_AT)

    def condition(self, prompt: str, *, size: tuple[int, int] | None = None, negative: bool = False) -> Conditioning:
        """The text encoder's states at three depths side by side, 1 n 3c, of the prompt as a message to it."""
        notice_unknown_words(prompt, self._vocabulary)
        notice_unread_weights(prompt)
        notice_long_prompt(self._pipeline.tokenizer, prompt, self._max_tokens)
        with self._turn, torch.no_grad():
            self._ready(self._pipeline.text_encoder)
            states, _ = self._pipeline.encode_prompt(
                prompt,
                device=self.device,
                max_sequence_length=self._max_tokens,
                text_encoder_out_layers=self._text_layers,
            )
        return Conditioning(states)

    def draw_noise(self, count: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Noise f c h w, drawn token by token."""
        width, height = (side // self.size_multiple for side in size)
        channels = self.latent_channels * LATENTS_PER_TOKEN**2
        return unpatchify(torch.randn(count, channels, height, width, generator=generator))

    def read_references(self, images: Sequence[Tensor], *, beside_source: bool = False) -> References:
        """Keys and values of reference images, computed once for all frames, steps and prompts.

        As in FLUX.2 [klein]'s cache of them (diffusers' Flux2KleinKVPipeline): at time 0, and attending to nothing but
        each other. Calls attend to them if they are a conditioning's `references`.

        Args:
            images: latents 1 c h w of each, of any size.
            beside_source: whether frames are shown the image they are an edit of, which is then the first beside them.
        """
        places = range(1 + beside_source, 1 + beside_source + len(images))
        ids = [
            self._image_ids(image.shape[-2] // LATENTS_PER_TOKEN, image.shape[-1] // LATENTS_PER_TOKEN, place)
            for image, place in zip(images, places, strict=True)
        ]
        found: dict[str, Memory] = {}

        def keep(call: AttentionCall) -> Tensor:
            queries, keys = call.queries_keys()
            found[call.site.name] = call.memory(keys, call.values())
            return attend_within_frames(call, queries, keys, call.values())

        dtype, width = self._transformer.dtype, self._transformer.config.joint_attention_dim
        nothing = Conditioning(torch.empty(1, 0, width, device=self.device, dtype=dtype))
        tokens = torch.cat([self._pack(image.to(self.device)) for image in images], 1)  # 1 r c
        with self._turn, torch.no_grad(), patched(self._processors(keep, nothing)):
            self._ready(self._transformer)(
                hidden_states=tokens.to(dtype),
                encoder_hidden_states=nothing.tokens,
                timestep=torch.zeros(1, device=self.device),
                img_ids=torch.cat(ids),
                txt_ids=self._text_ids(0),
                return_dict=False,
            )
        return found

    def _more_inputs(self, conditioning: Conditioning, inject: Injection) -> dict[str, Any]:
        return {}

    def _image_ids(self, rows: int, columns: int, place: int) -> Tensor:
        grid = torch.cartesian_prod(*(torch.arange(size, device=self.device) for size in (rows, columns)))  # n 2
        first = torch.full_like(grid[:, :1], place * IMAGE_DISTANCE)
        return torch.cat([first, grid, torch.zeros_like(first)], 1)

    def _text_ids(self, count: int) -> Tensor:
        ids = torch.zeros(count, AXES, device=self.device, dtype=torch.long)
        ids[:, -1] = torch.arange(count, device=self.device)
        return ids


def _check_channels(pipeline: Any) -> None:
    expected, encoded = pipeline.transformer.config.in_channels, pipeline.vae.config.latent_channels
    if expected != LATENTS_PER_TOKEN**2 * encoded:
        raise ModelError(
            f"the transformer takes {expected} channels but the autoencoder has {encoded}, of which a token has four "
            "times as many; expected the autoencoder that it was trained with: choose another model.path"
        )
