"""The references of an edit: from images to what keyframes attend to."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from tokenflow.config import Edit
from tokenflow.config import Reference as ReferenceSettings
from tokenflow.diffusion.batches import as_tensor
from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.guidance import Guidance
from tokenflow.diffusion.levels import Level, at_level, shared_noise
from tokenflow.errors import ClipNotFoundError, ConfigError, ModelError
from tokenflow.events import notice
from tokenflow.models.ip_adapter import ImagePrompt
from tokenflow.models.model import Model
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.given_image import as_image
from tokenflow.pipeline.inversion import source_steps
from tokenflow.pipeline.validation import validated
from tokenflow.propagation.references import References
from tokenflow.regions.by_text import ATTENTION_AT, SHOWN, contrast, step_with_left
from tokenflow.video import resize

DRAW = 2
"""Which sample of the seed is their noise; others are a mode's, and that of `edit.variation`."""

GAIN = 2.0
"""How many times a reference of weight 1 counts beside all that keyframes attend to otherwise (docs/references.md)."""

DEFAULTS = ReferenceSettings(path=Path("given"))


@dataclass(frozen=True, eq=False)
class Reference:
    """An image whose look an edit takes.

        tokenflow.Reference("golden_tiger.png", weight=0.8)

    Attributes:
        image: a path, a Pillow image, or H W 3 uint8, or floating point in [0, 1]. Its middle is taken where its aspect
            ratio is not that of the clip, the first frame of a video, and black behind transparent pixels.
        weight: how strongly it counts, from 0 to 100.
        kind: `identity` takes the look of what the prompt changes, which the model finds in the image; `style` that of
            everything in it, with its overall colours and contrasts.
    """

    image: Any = field(repr=False)
    weight: float = DEFAULTS.weight
    kind: Literal["identity", "style"] = DEFAULTS.kind


def references_of(edit: Edit) -> list[Reference]:
    """The references that settings describe."""
    return [Reference(each.path, each.weight, each.kind) for each in edit.references]


def checked_references(references: Iterable[Any], edit: Edit) -> list[Reference]:
    """The references with their images read, after a check of all that can be checked before any work.

    Args:
        references: `Reference`s, settings of references, or images alone.
        edit: the settings.

    Raises:
        ConfigError: a value is out of range, or what was given is not an image.
        ClipError, ClipNotFoundError: an image cannot be read.
    """
    single = Reference | ReferenceSettings | Mapping | str | PathLike
    if isinstance(references, single) or not isinstance(references, Iterable):
        raise ConfigError(f"expected a list of references, such as [Reference('style.png')]; got {references!r}")
    checked = [_checked(each) for each in references]
    if checked and edit.mode == "keyframes":
        notice("edit.mode keyframes takes references only where it fills in what no edited frame shows")
    if edit.ip_adapter is not None and not checked:
        notice("edit.ip_adapter has no effect without edit.references; give the images that it is to read")
    return checked


def _checked(given: Any) -> Reference:
    if isinstance(given, Mapping):
        given = validated(ReferenceSettings, **given)
    if isinstance(given, ReferenceSettings):
        given = Reference(given.path, given.weight, given.kind)
    elif not isinstance(given, Reference):
        given = Reference(given)
    values = validated(ReferenceSettings, path=Path("given"), weight=given.weight, kind=given.kind)
    if isinstance(given.image, str | PathLike) and not Path(given.image).is_file():
        raise ClipNotFoundError(f"edit.references: there is no image at {given.image} in {Path.cwd()}; check the path")
    return Reference(as_image(given.image, "a reference"), values.weight, values.kind)


def load_ip_adapter(model: Model, path: str) -> ImagePrompt:
    """The IP-Adapter of a model.

    Raises:
        ModelError: the model's family has none, or it was trained for another model.
        ModelNotFoundError: there is none.
    """
    load: Callable[[str], ImagePrompt] | None = getattr(model, "load_ip_adapter", None)
    if load is None:
        raise ModelError(
            "only Stable Diffusion and SDXL have IP-Adapters; leave edit.ip_adapter out, and references are read by "
            "attention"
        )
    return load(path)


def reader_of(model: Model, mode: str) -> Callable[..., Any] | None:
    """What reads references as tokens of the model's own; None for a model to which they are shown by attention.

    Raises:
        ConfigError: the model is shown source frames, beside which attention cannot show it others.
    """
    reader: Callable[..., Any] | None = getattr(model, "read_references", None)
    if reader is None and mode == "instruct":
        raise ConfigError(
            "edit.mode instruct takes references with FLUX.2 [klein] only; leave edit.references out, or set "
            "model.path to such a model"
        )
    return reader


def guided_by_images(guidance: Guidance, model: Model, path: str, references: Sequence[Reference]) -> Guidance:
    """Guidance by prompts and references (as `checked_references` gives them), which an IP-Adapter reads.

    Raises:
        Everything that `load_ip_adapter` raises.
    """
    images = [each.image for each in references]
    return guidance.adding(*load_ip_adapter(model, path)(images, [each.weight for each in references]))


def reference_latents(source: InvertedClip, references: Sequence[Reference]) -> list[Tensor]:
    """Clean latents 1 c h w of each reference at the clip's working size, of those that count.

    References are as `checked_references` gives them.
    """
    images = [resize(each.image, *source.size, "fill") for each in references if each.weight > 0]
    return [source.model.encode(as_tensor(image[None])) for image in images]


def build_references(
    source: InvertedClip, references: Sequence[Reference], prompt: Conditioning, seed: int
) -> References | None:
    """What keyframes attend to; None without references that count.

    Args:
        source: the clip.
        references: the images, as `checked_references` gives them.
        prompt: the edit's own, one branch, whatever prompts its regions have.
        seed: of their noise, the same for all of them.
    """
    counted = [each for each in references if each.weight > 0]
    if not counted:
        return None
    model = source.model
    clean = torch.cat(reference_latents(source, counted))  # r c h w
    noise = shared_noise(clean, seed, draw=DRAW)

    def latents_at(level: Level) -> Tensor:
        return at_level(clean, noise, level)

    inside = torch.ones(len(clean), *clean.shape[-2:])  # r h w
    things = [place for place, each in enumerate(counted) if each.kind == "identity"]
    if things:
        level = step_with_left(source_steps(source), ATTENTION_AT).at
        change = model.text_change(latents_at(level)[things], level, prompt, source.conditioning).cpu()  # t h w
        inside[things] = torch.stack([found_part(each) for each in change])
    weights = torch.tensor([each.weight for each in counted])  # r
    styles = weights * torch.tensor([each.kind == "style" for each in counted])  # r
    return References(model, latents_at, GAIN * weights, inside, styles)


def found_part(change: Tensor) -> Tensor:
    """Where a reference shows what the prompt changes: h w, 1 inside; everywhere where nothing stands out.

    Args:
        change: h w, how much of the attention to text the prompt changes.
    """
    inside = (contrast(change[None])[0] > SHOWN).float()
    return inside if inside.any() else torch.ones_like(change)
