"""IP-Adapters (Ye et al., arXiv 2308.06721): images that cross-attention of a Stable Diffusion reads beside the prompt.

diffusers' own loader reads them, and its attention processors run them. They are taken out of the pipeline at once, and
a network call has them only if its conditioning brings images, so that inversions stay as they are.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.attention_processor import IPAdapterAttnProcessor2_0
from diffusers.models.embeddings import ImageProjection
from torch import Tensor, nn

from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.errors import ModelError, ModelNotFoundError
from tokenflow.models.checkpoints.file_kinds import read_header
from tokenflow.models.checkpoints.hub import cached_file
from tokenflow.models.checkpoints.quiet import quiet
from tokenflow.models.placement import prepare

SETTING = "edit.ip_adapter"

ENCODER = "image_encoder"
"""The folder beside an adapter with the image encoder that it was trained with."""

WEIGHTS_FILE = "model.safetensors"
"""Of the image encoder."""

TOKENS, WEIGHTS = "ip-adapter tokens", "ip-adapter weights"
"""Names among what a conditioning adds, before the adapter's path: b r t c of r images, and b r."""

ImagePrompt = Callable[[Sequence[np.ndarray], Sequence[float]], tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]
"""(images H W 3 uint8, their weights) -> what a prompt's conditioning adds, one branch, and what the negative one's."""


@dataclass(frozen=True, eq=False)
class IPAdapter:
    """An adapter as it was loaded for one UNet.

    Attributes:
        encoder: CLIP's image encoder.
        extractor: its preprocessing.
        projection: from the encoder's states to the tokens that are attended to.
        processors: by module of cross-attention, those that attend to one image.
    """

    encoder: Any
    extractor: Any
    projection: nn.Module
    processors: Mapping[nn.Module, Any]

    def read(self, images: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """The tokens of images H W 3 uint8, and those that stand for no image: 1 r t c each."""
        device = next(self.encoder.parameters()).device
        pixels = self.extractor(list(images), return_tensors="pt").pixel_values.to(device, self.encoder.dtype)
        with torch.no_grad():
            if isinstance(self.projection, ImageProjection):
                states = self.encoder(pixels).image_embeds  # r d
                nothing = torch.zeros_like(states)
            else:
                states, nothing = (
                    self.encoder(each, output_hidden_states=True).hidden_states[-2]  # r n d
                    for each in (pixels, torch.zeros_like(pixels))
                )
            return self.projection(states)[None], self.projection(nothing)[None]

    def attending(self, tokens: Tensor, weights: Tensor) -> dict[nn.Module, Callable[..., Tensor]]:
        """Processors of cross-attention that also attend to images.

        Args:
            tokens: m r t c, of each sample.
            weights: r.
        """
        images = list(tokens.unbind(1))
        made = {}
        for layer, processor in self._repeated(len(images)).items():
            processor.scale = weights.tolist()
            made[layer] = _with_images(processor, images)
        return made

    @lru_cache(maxsize=2)  # noqa: B019 - adapters live as long as their model
    def _repeated(self, count: int) -> dict[nn.Module, Any]:
        """Processors that attend to several images, each by itself, with the weights of the one that was loaded."""
        several = {}
        for layer, processor in self.processors.items():
            made = IPAdapterAttnProcessor2_0(1, 1, num_tokens=[processor.num_tokens[0]] * count)
            made.to_k_ip = nn.ModuleList([processor.to_k_ip[0]] * count)
            made.to_v_ip = nn.ModuleList([processor.to_v_ip[0]] * count)
            several[layer] = made
        return several


def _with_images(processor: Any, images: list[Tensor]) -> Callable[..., Tensor]:
    """A processor that is also given the tokens of images, m t c each."""

    def attend(
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        **_: Any,
    ) -> Tensor:
        attended: Tensor = processor(attn, hidden_states, (encoder_hidden_states, images), attention_mask)
        return attended

    return attend


def added_images(
    path: str, adapter: IPAdapter, images: Sequence[np.ndarray], weights: Sequence[float]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What conditionings add (see `ImagePrompt`) for an adapter that was loaded from a path."""
    tokens, nothing = adapter.read(images)
    scales = torch.tensor([list(weights)], device=tokens.device)  # 1 r
    prompts, negative = ({f"{TOKENS} {path}": each, f"{WEIGHTS} {path}": scales} for each in (tokens, nothing))
    return prompts, negative


def is_of_images(name: str) -> bool:
    """Whether a name among what a conditioning adds is an adapter's."""
    return name.startswith((TOKENS, WEIGHTS))


def image_processors(
    conditioning: Conditioning, adapters: Mapping[str, IPAdapter]
) -> dict[nn.Module, Callable[..., Tensor]]:
    """Processors for the images that a conditioning brings, by module; none without.

    Args:
        conditioning: (b f) n c, repeated for frames.
        adapters: those that were loaded, by path.
    """
    processors: dict[nn.Module, Callable[..., Tensor]] = {}
    for path, adapter in adapters.items():
        if f"{TOKENS} {path}" in conditioning.added:
            tokens, weights = (conditioning.added[f"{name} {path}"] for name in (TOKENS, WEIGHTS))
            processors |= adapter.attending(tokens, weights[0])
    return processors


def load_adapter(path: str, pipeline: Any) -> IPAdapter:
    """The adapter in a `.safetensors` file, which may be one on the Hub: owner/name/folder/file.safetensors.

    Args:
        path: of the file.
        pipeline: of diffusers, of the model that it is for; as it was before, when this returns.

    Raises:
        ModelNotFoundError: there is none, or no image encoder beside it.
        ModelError: it was trained for another model.
    """
    repository, subfolder, file = _located(path)
    encoder = _encoder_of(subfolder, file)
    unet = pipeline.unet
    try:
        with quiet():
            pipeline.load_ip_adapter(repository, subfolder=subfolder, weight_name=file, image_encoder_folder=encoder)
        processors = {unet.get_submodule(name.removesuffix(".processor")): each for name, each in _image_layers(unet)}
        projection = unet.encoder_hid_proj.image_projection_layers[0]
        adapter = IPAdapter(pipeline.image_encoder, pipeline.feature_extractor, projection, processors)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        if isinstance(error, OSError):
            raise ModelNotFoundError(
                f"no IP-Adapter at {path!r} ({str(error).splitlines()[0]}); expected a .safetensors file with a folder "
                f"{ENCODER} beside it: set {SETTING}"
            ) from error
        raise ModelError(
            f"the IP-Adapter at {path!r} was trained for another model: its weights do not fit this one's; set "
            f"{SETTING} to one trained for this model"
        ) from error
    finally:
        pipeline.unload_ip_adapter()
    for network in (adapter.encoder, adapter.projection, *adapter.processors.values()):
        prepare(network)
    return adapter


def adapter_bytes(path: str, dtype: torch.dtype) -> int | None:
    """Bytes of an adapter's weights and its image encoder's in a precision, by their files' headers.

    None where they are not on this machine; a path and errors as in `load_adapter`.
    """
    repository, subfolder, file = _located(path)
    encoder = _encoder_of(subfolder, file)
    names = ["/".join(filter(None, (subfolder, file))), f"{encoder}/{WEIGHTS_FILE}"]
    if "/" not in encoder and subfolder:
        names[1] = f"{subfolder}/{names[1]}"
    is_local = Path(repository).is_dir()
    found = [Path(repository, name) if is_local else cached_file(repository, name) for name in names]
    headers = [read_header(str(each), SETTING) for each in found if each is not None and each.is_file()]
    if len(headers) < len(found):
        return None
    return sum(math.prod(weight.shape) for header in headers for weight in header.values()) * dtype.itemsize


def _encoder_of(subfolder: str, file: str) -> str:
    """The folder of the image encoder that an adapter was trained with, beside it or in its repository."""
    return "models/image_encoder" if "vit-h" in file and subfolder == "sdxl_models" else ENCODER


def _image_layers(unet: Any) -> list[tuple[str, Any]]:
    return [(name, each) for name, each in unet.attn_processors.items() if isinstance(each, IPAdapterAttnProcessor2_0)]


def _located(path: str) -> tuple[str, str, str]:
    """Folder or repository, folder in it, and file.

    Raises:
        ModelNotFoundError: the path is neither of a file nor of one on the Hub.
    """
    file = Path(path).expanduser()
    if file.is_file():
        return str(file.parent), "", file.name
    on_hub = re.fullmatch(r"([\w.-]+/[\w.-]+)/(?:(.+)/)?([^/]+\.safetensors)", path)
    if on_hub is None or file.parent.exists():
        raise ModelNotFoundError(
            f"the IP-Adapter {path!r} was not found in {Path.cwd()}; set {SETTING} to a .safetensors file, or to one "
            "on the Hub such as h94/IP-Adapter/models/ip-adapter_sd15.safetensors"
        )
    return on_hub[1], on_hub[2] or "", on_hub[3]
