"""What a LoRA learns from: images with captions, and images of prompts that should stay as they are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from tokenflow.config import LoRATraining
from tokenflow.diffusion.batches import as_tensor
from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.errors import ClipError, ClipNotFoundError
from tokenflow.events import Listener
from tokenflow.models.model import Model
from tokenflow.pipeline.generation import generate
from tokenflow.video.images.files import find_images


@dataclass(frozen=True)
class CaptionedImage:
    """An image file and its caption."""

    file: Path
    caption: str


@dataclass(frozen=True)
class Example:
    """One encoded image.

    Attributes:
        latents: 1 c h w.
        conditioning: of its caption.
        empty: of an empty caption, which may take the caption's place.
    """

    latents: Tensor
    conditioning: Conditioning
    empty: Conditioning


def read_images(folder: Path, caption: str) -> list[CaptionedImage]:
    """The images of a folder, each with the caption in the `.txt` file of the same name, or else the given one.

    Raises:
        ClipNotFoundError: the folder does not exist.
        ClipError: it has no image, or an image or a caption cannot be read.
    """
    if not folder.is_dir():
        raise ClipNotFoundError(f"the folder {str(folder)!r} does not exist; set images to a folder of images")
    files = find_images(folder)
    if not files:
        raise ClipError(f"{str(folder)!r} has no images; expected files such as .png or .jpg: set images to another")
    for file in files:
        _decoded(file)  # now rather than once images to keep are made
    return [CaptionedImage(file, _read_caption(file.with_suffix(".txt"), caption)) for file in files]


def encode_images(settings: LoRATraining, model: Model, images: Sequence[CaptionedImage]) -> list[Example]:
    """The images to learn, mirrored as well if `flip` is set."""
    side = _side(settings, model)
    condition = partial(model.condition, size=(side, side))
    examples = []
    for each in images:
        image = _square(each.file, side)
        views = [image, np.ascontiguousarray(image[:, ::-1])] if settings.flip else [image]
        for view in views:
            latents = model.encode(as_tensor(view[None])).cpu()
            examples.append(Example(latents, condition(each.caption), condition("")))
    return examples


def make_kept_images(settings: LoRATraining, model: Model, on_event: Listener | None) -> list[Example]:
    """Images of the prompts that should stay as they are, made by the model with its LoRA switched off."""
    if not settings.keep:
        return []
    size, examples = (_side(settings, model),) * 2, []
    model.network.disable_adapters()
    for prompt in settings.keep:
        images = generate(model, prompt, size=size, seed=settings.seed, count=settings.keep_images, on_event=on_event)
        conditioning, empty = (model.condition(text, size=size) for text in (prompt, ""))
        examples += [Example(each[None], conditioning, empty) for each in model.encode(as_tensor(images)).cpu()]
    model.network.enable_adapters()
    return examples


def draw(
    examples: Sequence[Example], count: int, empty_captions: float, generator: torch.Generator
) -> Iterator[tuple[Tensor, Conditioning]]:
    """Latents and conditioning of `count` random examples, a share of them with an empty caption; none of none."""
    if not examples:
        return
    for index in torch.randint(len(examples), (count,), generator=generator).tolist():
        example = examples[index]
        is_empty = float(torch.rand((), generator=generator)) < empty_captions
        yield example.latents, example.empty if is_empty else example.conditioning


def _read_caption(file: Path, default: str) -> str:
    if not file.is_file():
        return default
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ClipError(f"the caption {str(file)!r} cannot be read ({error}); save it as text in UTF-8") from error


def _side(settings: LoRATraining, model: Model) -> int:
    """Pixels of the side of the square that images are cropped to."""
    side = settings.size or model.native_size
    return max(model.size_multiple, side // model.size_multiple * model.size_multiple)


def _square(file: Path, side: int) -> np.ndarray:
    """The middle of an image as side × side pixels: H W 3 uint8."""
    return np.asarray(ImageOps.fit(_decoded(file), (side, side), Image.Resampling.LANCZOS))


def _decoded(file: Path) -> Image.Image:
    """An image in RGB, the right way up.

    Raises:
        ClipError: the file cannot be read as an image.
    """
    try:
        with Image.open(file) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # Pillow's own for some damages of PNG
        raise ClipError(f"the image {str(file)!r} cannot be read ({error}); replace or remove it") from error
