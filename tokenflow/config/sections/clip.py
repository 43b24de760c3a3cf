"""The source clip."""

from typing import Annotated, Any, Literal

from PIL import ImageColor
from pydantic import Field, ValidationError, ValidatorFunctionWrapHandler, WrapValidator, field_validator

from tokenflow.config.sections.section import AUTO, LocalPath, PositiveCount, Section

SidePixels = Annotated[int, Field(ge=16, le=16_384)]


def _explain_size_once(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """One error for a size, where pydantic gives one for each of its forms."""
    try:
        return validate(value)
    except ValidationError:
        raise ValueError(
            "expected the shorter side in pixels, or a box [width, height], each from 16 to 16384"
        ) from None


WorkingSize = Annotated[SidePixels | tuple[SidePixels, SidePixels], WrapValidator(_explain_size_once)]
"""The shorter side in pixels, or a box of width and height."""


def _explain_cuts_once(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """One error for cuts, where pydantic gives one for each of their forms and reads true as 1."""
    try:
        if not any(isinstance(each, bool) for each in value):
            return validate(value)
    except (ValidationError, TypeError):
        pass
    raise ValueError("expected auto, or the frames at which shots begin, such as [49]")


Cuts = Annotated[tuple[PositiveCount, ...] | Literal["auto"], WrapValidator(_explain_cuts_once)]
"""The frames at which shots begin, but for the first."""


class Clip(Section):
    """The source clip: where it is, what it shows, and which part of it to edit."""

    path: LocalPath = Field(
        description="The clip: a video, an animation such as a GIF, an image, a folder of images, or a pattern such as "
        "shots/%04d.png."
    )
    prompt: str = Field(
        description="What the clip shows. The inversion is conditioned on it; edit.prompt is usually the same sentence "
        "with some words replaced."
    )
    start: float = Field(
        0.0, ge=0, le=10**7, allow_inf_nan=False, description="Where the edited part begins, in seconds."
    )
    frames: PositiveCount | None = Field(None, description="Number of frames to edit; null for all up to the end.")
    every: PositiveCount = Field(1, description="Edit every n-th frame only; the result has fewer frames per second.")
    rate: float | None = Field(
        None,
        ge=0.001,
        le=1000,
        allow_inf_nan=False,
        description="Frames per second: of a sequence of images, null for 25; any other clip is resampled to it, null "
        "for its own times. 23.976 and 29.97 stand for 24000/1001 and 30000/1001.",
    )
    cuts: Cuts = Field(
        AUTO,
        description="The frames at which another shot begins, such as [49], counted from 0 in the edited part; each "
        "shot is edited by itself, and nothing is carried over a cut. auto finds them and says which; [] for one shot.",
    )
    sound: LocalPath | None = Field(
        None,
        description="A file whose sound begins with the first frame of the clip, in place of the clip's own; null for "
        "the clip's own.",
    )
    background: str | None = Field(
        None,
        description="The colour behind transparent pixels, such as white or '#ff8000'; null for black, with a warning. "
        "Results in webp, apng, gif, vp9, prores and ffv1 keep the transparency.",
    )
    size: WorkingSize | None = Field(
        None,
        description="Working size: the shorter side in pixels, or a box [width, height] to fit into; null for as many "
        "pixels as the model was trained at. Rounded to what the model accepts. Larger keeps finer detail and costs "
        "more time and memory. The result is scaled back to the clip's own size.",
    )
    resize: Literal["fit", "fill", "pad"] = Field(
        "fit",
        description="How to reach an aspect ratio that the model accepts: fit stretches slightly, fill crops two sides "
        "(the result stays cropped), pad repeats the edges around the image.",
    )

    @field_validator("background")
    @classmethod
    def _refuse_other_than_colours(cls, value: str | None) -> str | None:
        try:
            ImageColor.getrgb(value or "black")
        except ValueError:
            raise ValueError("expected a colour such as white or '#ff8000'") from None
        return value
