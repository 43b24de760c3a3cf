"""Region: a part of the clip that an edit may change."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comfy_api.latest import io
from torch import Tensor

import tokenflow
from tokenflow.config import Region as Settings

from ..host.schema import advanced, schema
from ..host.tensors import read_mask
from ..host.types import REGIONS
from ..host.widgets import settings, widget
from ..host.wording import made

NO_FRAME = -1


class Region(io.ComfyNode):
    """By a mask, by words, or found by itself; several are chained."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """A mask or widgets that say where it is."""
        return schema(
            "Region",
            "Region",
            search_words=("mask", "inpaint", "background", "part"),
            description="A part of the clip that an edit may change; all else stays as it is. Give a mask, words, or "
            "auto.",
            inputs=[
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White inside: one mask for all frames, one per frame, or one that is carried along the "
                    "motion (mask_frame).",
                ),
                REGIONS.Input("others", optional=True, tooltip="Other regions of the same edit."),
                widget(
                    Settings,
                    "words",
                    tooltip="Words of the clip's prompt: the region is where the model reads them. Commas between "
                    "several.",
                ),
                widget(
                    Settings,
                    "auto",
                    tooltip="The region is where the edit's prompt changes something, as the model sees it.",
                ),
                widget(Settings, "prompt", tooltip="What the region should show; empty for the edit's prompt."),
                widget(Settings, "grow", step=1.0),
                widget(Settings, "feather", step=1.0),
                widget(Settings, "invert"),
                *advanced(
                    io.Int.Input(
                        "mask_frame",
                        default=NO_FRAME,
                        min=NO_FRAME,
                        max=10**9,
                        tooltip="The frame that the one mask is of, counted from 0; it is carried to all others along "
                        "the motion of the clip. -1 if the mask is not that of a single frame.",
                    )
                ),
            ],
            outputs=[REGIONS.Output(display_name="regions", tooltip="For Edit, Region Mask, or the next Region.")],
        )

    @classmethod
    def execute(
        cls,
        mask_frame: int,
        mask: Tensor | None = None,
        others: "Sequence[tokenflow.Region]" = (),
        **given: Any,
    ) -> io.NodeOutput:
        """The region with these settings; the edit finds it."""
        values = settings(Settings, given) | {"mask_frame": None if mask_frame == NO_FRAME else mask_frame}
        values |= {name: (values[name] or "").strip() or None for name in ("words", "prompt")}
        has_mask = {} if mask is None else {"mask": Path("linked")}
        checked = made(Settings, **values, **has_mask)
        region = tokenflow.Region(**dict(checked) | {"mask": None if mask is None else read_mask(mask)})
        return io.NodeOutput((*others, region))
