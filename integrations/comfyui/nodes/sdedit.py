"""SDEdit: the mode that keeps rough layout and colours."""

from typing import Any

from comfy_api.latest import io

from tokenflow.config import SDEdit as Settings

from ..host.schema import schema
from ..host.types import MODE
from ..host.widgets import settings, widget
from ..host.wording import made

WIDGETS = ("strength", "noise")
"""In the order in which workflows keep their values: new ones come last."""


class SDEdit(io.ComfyNode):
    """Noises the clip part of the way, and denoises it under the new prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Widgets of the settings `edit.sdedit`."""
        return schema(
            "SDEdit",
            "Mode: SDEdit",
            search_words=("img2img", "denoise", "strength"),
            description="Keeps rough layout and colours of the clip, and may change shapes.",
            inputs=[widget(Settings, name) for name in WIDGETS],
            outputs=[MODE.Output(display_name="mode", tooltip="For Edit.")],
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        """The mode with these settings."""
        return io.NodeOutput(made(Settings, **settings(Settings, given)))
