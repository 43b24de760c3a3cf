"""The base class of all sections, and types that settings share."""

import errno
import os
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from tokenflow.config.suggestions import is_section

FractionOfSteps = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""Of the sampling steps, the noisiest first."""

PositiveCount = Annotated[int, Field(ge=1, le=10**9)]


def _expand_path(value: Any) -> Any:
    """Expand `~`, and refuse an empty path, which would otherwise mean the working directory."""
    if not isinstance(value, str | Path):
        return value
    if not str(value).strip():
        raise ValueError("expected a name; write . for the working directory")
    path = os.path.expanduser(value)
    _refuse_impossible(path)
    return path


def _refuse_impossible(path: str) -> None:
    """Refuse a path that no file can have: too long for the system, or with characters it does not allow."""
    try:
        os.lstat(path)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"invalid path ({reason})") from None


NAMES_A_FILE = BeforeValidator(_expand_path)
"""Marks the settings that name a file, a folder or a model on the Hub; see `files.py`."""

LocalPath = Annotated[Path, NAMES_A_FILE]
PathOrHubId = Annotated[str, NAMES_A_FILE]

AUTO: Literal["auto"] = "auto"


class Section(BaseModel):
    """Settings that belong together: frozen, and without others."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_stray_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a boolean for a setting of another type: pydantic would read it as 1 or 0."""
        wanted = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and bool not in (wanted, *get_args(wanted)) and not is_section(wanted):
            raise ValueError("expected a string or number (quote words such as 'yes')")
        return value
