"""Types of links between the nodes, where ComfyUI has none of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from comfy_api.latest import io

import tokenflow

CATEGORY = "TokenFlow"
"""In the menu of nodes."""

MODEL = io.Custom("TOKENFLOW_MODEL")
INVERSION = io.Custom("TOKENFLOW_INVERSION")
MODE = io.Custom("TOKENFLOW_MODE")
REGIONS = io.Custom("TOKENFLOW_REGIONS")
LORAS = io.Custom("TOKENFLOW_LORAS")
TEXTUAL_INVERSIONS = io.Custom("TOKENFLOW_TEXTUAL_INVERSIONS")
REFERENCES = io.Custom("TOKENFLOW_REFERENCES")
EDIT = io.Custom("TOKENFLOW_EDIT")

Audio = Mapping[str, Any]
"""ComfyUI's AUDIO: `waveform`, b c samples, and `sample_rate`."""


@dataclass(frozen=True, eq=False)
class Inversion:
    """What an INVERSION link carries.

    Attributes:
        clip: what the library inverted.
        audio: the clip's sound, which passes through; None if it is silent.
    """

    clip: "tokenflow.InvertedClip" = field(repr=False)
    audio: Audio | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Edit:
    """What an EDIT link carries.

    Attributes:
        edited: what the library made.
        prompt: of the edit.
        mode: its name in the library's settings.
    """

    edited: "tokenflow.Edited" = field(repr=False)
    prompt: str
    mode: str
