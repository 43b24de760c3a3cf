"""Region Mask: what an edit with these regions may change, to look at before it is made."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io

import tokenflow
from tokenflow.config import Edit as Settings

from ..host.running import run
from ..host.schema import advanced, schema
from ..host.tensors import as_mask
from ..host.types import INVERSION, REGIONS, Inversion
from ..host.widgets import settings, widget


class RegionMask(io.ComfyNode):
    """A node of its own, since regions by words cost network calls that an edit makes anyway."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """From regions to a MASK."""
        return schema(
            "RegionMask",
            "Region Mask",
            search_words=("segment", "mask from text"),
            description="The regions of an edit as a mask, without the edit.",
            inputs=[
                INVERSION.Input("inversion", tooltip="Of the clip that is edited."),
                REGIONS.Input("regions", tooltip="As they go into the edit."),
                io.String.Input(
                    "prompt",
                    default="",
                    multiline=True,
                    tooltip="The edit's prompt; only regions by auto depend on it.",
                ),
                *advanced(
                    widget(Settings, "correspondence"),
                    widget(Settings, "keyframe_interval"),
                    widget(Settings, "batch_size"),
                ),
            ],
            outputs=[io.Mask.Output(display_name="mask", tooltip="One per frame, white inside.")],
        )

    @classmethod
    def execute(
        cls, inversion: Inversion, regions: "Sequence[tokenflow.Region]", prompt: str, **given: Any
    ) -> io.NodeOutput:
        """Find them."""
        from tokenflow.pipeline.frames import kept_part  # takes seconds to import

        if not prompt.strip() and any(region.auto for region in regions):
            raise ValueError("a region by auto is where the edit's prompt changes something; write that prompt here")
        clip = inversion.clip
        masks = run(tokenflow.find_regions, clip, prompt, regions, **settings(Settings, given))
        if masks is not None:
            return io.NodeOutput(as_mask(masks))
        width, height = clip.video.size
        everywhere = kept_part(np.ones((height, width)), clip)  # the frames of an edit are cropped alike
        return io.NodeOutput(torch.ones(clip.frame_count, *everywhere.shape))
