"""Plug-and-Play: the mode that keeps layout, shapes and poses."""

from typing import Any

from comfy_api.latest import io

from tokenflow.config import PnP

from ..host.schema import schema
from ..host.types import MODE
from ..host.widgets import settings, widget
from ..host.wording import made

WIDGETS = ("features_until", "attention_until", "features")
"""In the order in which workflows keep their values: new ones come last."""


class PlugAndPlay(io.ComfyNode):
    """What an edit does unless another mode is linked, with its settings."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Widgets of the settings `edit.pnp`."""
        return schema(
            "PlugAndPlay",
            "Mode: Plug-and-Play",
            search_words=("pnp", "feature injection", "attention injection"),
            description="Keeps layout, shapes and poses of the clip. An edit without a mode is this one.",
            inputs=[widget(PnP, name) for name in WIDGETS],
            outputs=[MODE.Output(display_name="mode", tooltip="For Edit.")],
        )

    @classmethod
    def execute(cls, **given: Any) -> io.NodeOutput:
        """The mode with these settings."""
        return io.NodeOutput(made(PnP, **settings(PnP, given)))
