"""Images whose look an edit takes."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator

from tokenflow.config.sections.section import LocalPath, Section


class Reference(Section):
    """An image whose look an edit takes."""

    path: LocalPath = Field(description="An image. Its middle is taken where its aspect ratio is another.")
    weight: float = Field(
        1.0,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="How strongly it counts, 0 to 100; 0 for not at all. With an IP-Adapter, that adapter's scale.",
    )
    kind: Literal["identity", "style"] = Field(
        "identity",
        description="Whose look is taken: identity, that of what edit.prompt changes, which the model finds in the "
        "image; or style, that of everything in it, with its overall colours and contrasts. No effect with an "
        "IP-Adapter.",
    )


def _validate_references(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """References, of which any may be a path alone."""
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list of images such as [style.png], or of sections such as [{path: style.png}]")
    return validate([{"path": each} if isinstance(each, str | Path) else each for each in value])


References = Annotated[
    tuple[Reference, ...], WrapValidator(_validate_references, json_schema_input_type=list[Reference | str])
]
