"""FlowEdit: the mode that needs no inversion."""

from typing import Any

from comfy_api.latest import io

from tokenflow.config import FlowEdit as Settings

from ..host.schema import schema
from ..host.types import MODE
from ..host.widgets import settings, widget
from ..host.wording import made

WIDGETS = ("strength", "source_guidance_scale")
"""In the order in which workflows keep their values: new ones come last."""


class FlowEdit(io.ComfyNode):
    """Moves the source by the difference that the two prompts make."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Widgets of the settings `edit.flowedit`."""
        return schema(
            "FlowEdit",
            "Mode: FlowEdit",
            search_words=("inversion free", "flow edit"),
            description="Keeps what both prompts say, without an inversion: Invert may take 0 steps.",
            inputs=[widget(Settings, name) for name in WIDGETS],
            outputs=[MODE.Output(display_name="mode", tooltip="For Edit.")],
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        """The mode with these settings."""
        return io.NodeOutput(made(Settings, **settings(Settings, given)))
