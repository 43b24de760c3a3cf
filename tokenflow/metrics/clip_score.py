"""CLIP scores of frames: how well they fit a prompt, and how similar neighbours are. The only metric with a network."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPModel, CLIPProcessor

from tokenflow.errors import ModelError, ModelNotFoundError


class ClipScore:
    """Cosines between CLIP embeddings (Radford et al., ICML 2021), fed frame by frame.

    Images go through the model's own preprocessing: the shorter side is scaled to the network's size and the centre
    cropped, so the ends of a wide image are not seen.

    Args:
        path: a CLIP model: a Hub id, or a folder in transformers' layout.
        prompt: text to compare with; truncated to the model's 77 tokens.
        device: where to run.

    Raises:
        ModelNotFoundError: no model was found at `path`.
        ModelError: the model is not a CLIP model, or weights are missing.
    """

    def __init__(self, path: str, prompt: str, device: torch.device) -> None:
        self.over_time: dict[str, dict[str, list[float | None]]] = {}
        """By clip: `clip_text`, the cosine of each frame and the prompt (CLIPScore of Hessel et al., EMNLP 2021,
        without its factor 2.5), and `clip_consistency`, that of neighbouring frames (Esser et al., ICCV 2023)."""
        self._model, self._processor = _load(path)
        self._model.eval().requires_grad_(False)
        self._device = device
        self._text = self._embed_text(prompt).to(device)
        self._before: dict[str, Tensor] = {}

    def add(self, images: Mapping[str, np.ndarray], *, cut: bool = False) -> None:
        """Measure the next frame of each clip, H W 3 uint8; `cut` says that another shot begins with it."""
        self._model.to(self._device)  # not earlier: the stages before need the memory
        embeddings = dict(zip(images, self._embed(list(images.values())), strict=True))
        for name, embedding in embeddings.items():
            self._append("clip_text", name, float(embedding @ self._text))
            if name in self._before:
                consistency = None if cut else float(embedding @ self._before[name])
                self._append("clip_consistency", name, consistency)
        self._before = embeddings

    def _append(self, metric: str, name: str, value: float | None) -> None:
        self.over_time.setdefault(metric, {}).setdefault(name, []).append(value)

    def _embed(self, images: list[np.ndarray]) -> Tensor:
        """Unit vectors f d of images (H W 3 uint8)."""
        inputs = self._processor(images=[np.array(each) for each in images], return_tensors="pt").to(self._device)
        with torch.no_grad():
            return F.normalize(self._model.get_image_features(**inputs).pooler_output, dim=-1)

    def _embed_text(self, prompt: str) -> Tensor:
        """The unit vector d of a prompt."""
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
            raise _unreadable(path, str(error).splitlines()[0]) from error
        raise ModelNotFoundError(
            f"no CLIP model at {path!r}; expected a Hub id such as openai/clip-vit-base-patch32, or a folder "
            "with its weights, preprocessor and tokenizer: set metrics.clip, or leave it out"
        ) from error
    if loaded["missing_keys"]:
        raise _unreadable(path, f"{len(loaded['missing_keys'])} of its weights are missing")
    return model, processor


def _unreadable(path: str, reason: str) -> ModelError:
    return ModelError(f"cannot read {path!r} as a CLIP model ({reason}); set metrics.clip to a CLIP model")
