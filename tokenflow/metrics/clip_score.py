"""What CLIP thinks of pictures: how well they fit a sentence, and how much neighbours resemble each other.

The one measure that needs a network; it is loaded only where a configuration names it.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, CLIPProcessor

from tokenflow.errors import ModelError, ModelNotFoundError


class ClipScore:
    """Cosines between CLIP embeddings (Radford et al., ICML 2021), frame by frame.

    Pictures are brought to the network's size as its own preprocessing does it: the shorter side scaled, the middle cut
    out; what lies further out in a wide picture is not seen.

    Args:
        path: a CLIP model: a hub id, or a folder in transformers' layout.
        prompt: the sentence. What is beyond the model's 77 tokens is cut off.
        device: where to run.

    Raises:
        ModelNotFoundError: there is no model there.
        ModelError: what is there is no CLIP model.
    """

    def __init__(self, path: str, prompt: str, device: torch.device) -> None:
        self.over_time: dict[str, dict[str, list[float]]] = {}
        """`clip_text` (cosine of each frame and the prompt: CLIPScore of Hessel et al., EMNLP 2021, without its factor
        2.5) and `clip_consistency` (cosine of neighbouring frames: Esser et al., ICCV 2023), by name."""
        self._model, self._processor = _load(path)
        self._model.eval().requires_grad_(False)
        self._device = device
        self._text = self._embed_text(prompt).to(device)
        self._before: dict[str, Tensor] = {}

    def add(self, pictures: Mapping[str, np.ndarray]) -> None:
        """The next frame of each clip by name, H W 3 uint8."""
        self._model.to(self._device)  # not before there is anything to do: stages before this one need the room
        embeddings = dict(zip(pictures, self._embed(list(pictures.values())), strict=True))
        for name, embedding in embeddings.items():
            self._note("clip_text", name, embedding @ self._text)
            if name in self._before:
                self._note("clip_consistency", name, embedding @ self._before[name])
        self._before = embeddings

    def _note(self, figure: str, name: str, value: Tensor) -> None:
        self.over_time.setdefault(figure, {}).setdefault(name, []).append(float(value))

    def _embed(self, pictures: list[np.ndarray]) -> Tensor:
        """Unit vectors f d of pictures (H W 3 uint8)."""
        inputs = self._processor(images=[np.array(each) for each in pictures], return_tensors="pt").to(self._device)
        with torch.no_grad():
            return F.normalize(self._model.get_image_features(**inputs).pooler_output, dim=-1)

    def _embed_text(self, prompt: str) -> Tensor:
        """The unit vector d of a sentence."""
        length = self._model.config.text_config.max_position_embeddings
        inputs = self._processor(text=[prompt], truncation=True, max_length=length, return_tensors="pt")
        with torch.no_grad():
            return F.normalize(self._model.get_text_features(**inputs).pooler_output, dim=-1)[0]


def _load(path: str) -> tuple[CLIPModel, CLIPProcessor]:
    try:
        processor = CLIPProcessor.from_pretrained(path)
        model, loaded = CLIPModel.from_pretrained(path, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        if Path(path).is_dir():
            raise _no_clip(path, str(error).splitlines()[0]) from error
        raise ModelNotFoundError(
            f"there is no CLIP model at {path!r}; expected a hub id such as openai/clip-vit-base-patch32, or a folder "
            "with its weights, preprocessor and tokenizer: set metrics.clip, or leave it out"
        ) from error
    if loaded["missing_keys"]:
        raise _no_clip(path, f"{len(loaded['missing_keys'])} of its weights are missing")
    return model, processor


def _no_clip(path: str, why: str) -> ModelError:
    return ModelError(f"what is at {path!r} cannot be read as a CLIP model ({why}); set metrics.clip to one that is")
