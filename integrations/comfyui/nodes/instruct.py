"""Instruct: the mode of models that were made for editing."""

from typing import Any

from comfy_api.latest import io

from tokenflow.config import Instruct as Settings

from ..host.schema import schema
from ..host.types import MODE
from ..host.widgets import settings, widget
from ..host.wording import made

WIDGETS = ("strength",)
"""In the order in which workflows keep their values: new ones come last."""


class Instruct(io.ComfyNode):
    """Shows the model each frame; the prompt of the edit is an instruction."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Widgets of the settings `edit.instruct`."""
        return schema(
            "Instruct",
            "Mode: Instruct",
            search_words=("kontext", "flux", "instruction", "edit model"),
            description="The prompt of the edit is an instruction, such as: make the dog a tiger. For FLUX.1 Kontext "
            "and FLUX.2 [klein]; without an inversion, so Invert may take 0 steps.",
            inputs=[widget(Settings, name) for name in WIDGETS],
            outputs=[MODE.Output(display_name="mode", tooltip="For Edit.")],
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        """The mode with these settings."""
        return io.NodeOutput(made(Settings, **settings(Settings, given)))
