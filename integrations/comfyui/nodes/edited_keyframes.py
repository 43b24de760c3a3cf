"""Edited Keyframes: the mode that carries frames edited elsewhere through the clip."""

from comfy_api.latest import io
from torch import Tensor

import tokenflow
from tokenflow.apps.frame_numbers import frame_numbers
from tokenflow.config import Keyframes as Settings

from ..host.schema import schema
from ..host.tensors import read_image
from ..host.types import MODE
from ..host.widgets import widget


class EditedKeyframes(io.ComfyNode):
    """Any image model becomes a video editor: edit a frame, and carry it along the motion."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Images and their frame numbers."""
        return schema(
            "EditedKeyframes",
            "Mode: Edited Keyframes",
            search_words=("propagate", "ebsynth", "keyframe"),
            description="Carries frames that were edited anywhere, by hand or by any image model, through the clip.",
            inputs=[
                io.Image.Input("images", tooltip="The edited frames, of the size of the clip or its aspect ratio."),
                io.String.Input(
                    "frames",
                    default="0",
                    tooltip="Which frames of the clip these are, counted from 0, such as 0, 12, 23.",
                ),
                widget(Settings, "strength"),
            ],
            outputs=[MODE.Output(display_name="mode", tooltip="For Edit.")],
        )

    @classmethod
    def execute(cls, images: Tensor, frames: str, strength: float) -> io.NodeOutput:
        """The mode with these images."""
        numbers = frame_numbers(frames)
        if len(numbers) != len(images):
            each = "the one image" if len(images) == 1 else f"each of the {len(images)} images"
            raise ValueError(f"expected one frame number for {each}, got {frames!r}")
        if twice := [number for number in numbers if numbers.count(number) > 1]:
            raise ValueError(f"frame {twice[0]} is named twice; expected another number for each image")
        return io.NodeOutput(tokenflow.Keyframes(dict(zip(numbers, read_image(images), strict=True)), strength))
