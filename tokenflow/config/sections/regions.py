"""Which parts of a clip an edit may change."""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidatorFunctionWrapHandler, WrapValidator, field_validator, model_validator

from tokenflow.config.sections.section import AUTO, LocalPath, Section


class Region(Section):
    """A part of the clip that an edit may change. Exactly one of `mask`, `words` and `auto` says where it is."""

    mask: LocalPath | None = Field(
        None,
        description="White inside: an image, which is for all frames unless mask_frame says otherwise; or a clip or "
        "folder with as many frames as the source.",
    )
    mask_frame: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="The frame that the image in `mask` is of, counted from 0; it is carried to all others along the "
        "motion of the clip. Choose a frame that shows the whole of what is masked.",
    )
    words: str | None = Field(
        None,
        min_length=1,
        description="Words of clip.prompt: the region is where the model reads them. Commas between several.",
    )
    auto: bool = Field(False, description="The region is where edit.prompt changes something, as the model sees it.")
    invert: bool = Field(False, description="Take what is outside instead.")
    grow: float = Field(
        0.0,
        ge=-4096,
        le=4096,
        allow_inf_nan=False,
        description="Pixels of the source by which the region reaches further; less far below 0.",
    )
    feather: float = Field(
        2.0,
        ge=0,
        le=4096,
        allow_inf_nan=False,
        description="Pixels of the source over which the edit fades into the source, outside of the region.",
    )
    prompt: str | None = Field(None, description="What the region should show; null for edit.prompt.")

    @field_validator("words")
    @classmethod
    def _any_word(cls, value: str | None) -> str | None:
        if value is not None and not value.replace(",", " ").strip():
            raise ValueError("expected words of clip.prompt")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> "Region":
        named = [name for name in ("mask", "words", "auto") if getattr(self, name)]
        if len(named) != 1:
            raise ValueError(f"expected one of mask, words and auto; got {' and '.join(named) or 'none of them'}")
        if self.mask_frame is not None and self.mask is None:
            raise ValueError("mask_frame is given without the mask of that frame; set mask")
        return self


def _validate_regions(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Errors of the list's items, where pydantic would add those of every other form."""
    if isinstance(value, str):
        if value == AUTO:
            return value
        raise ValueError("expected auto, or a list of regions such as [{words: dog}]")
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list of regions such as [{words: dog}], or auto")
    return _LIST_OF_REGIONS.validate_python(value)


_LIST_OF_REGIONS = TypeAdapter(tuple[Region, ...])
Regions = Annotated[tuple[Region, ...] | Literal["auto"], WrapValidator(_validate_regions)]
