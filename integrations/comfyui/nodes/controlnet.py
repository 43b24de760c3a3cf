"""ControlNet: the mode that keeps outlines."""

from typing import Any

from comfy_api.latest import io

from tokenflow.config import ControlNet as Settings

from ..host.folders import chooser, chosen_path
from ..host.schema import schema
from ..host.types import MODE
from ..host.widgets import settings, widget

EXAMPLE = "lllyasviel/control_v11p_sd15_canny"

FIELDS = [name for name in Settings.model_fields if name != "path"]


class ControlNet(io.ComfyNode):
    """A Canny ControlNet on the clip's edges."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Widgets of the settings `edit.controlnet`."""
        return schema(
            "ControlNet",
            "Mode: ControlNet",
            search_words=("canny", "edges", "outlines"),
            description="Keeps the outlines of the clip, by a Canny ControlNet made for the model.",
            inputs=[
                *chooser("controlnet", "controlnet", "A Canny ControlNet", EXAMPLE),
                *(widget(Settings, name) for name in FIELDS),
            ],
            outputs=[MODE.Output(display_name="mode")],
        )

    @classmethod
    def execute(cls, controlnet: str, path: str, **given: Any) -> io.NodeOutput:
        """The mode with these settings; the ControlNet is loaded by the edit."""
        where = chosen_path(controlnet, "controlnet", path)
        return io.NodeOutput(Settings(path=where, **settings(Settings, given)))
