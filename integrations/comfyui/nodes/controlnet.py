"""ControlNet: the mode that keeps what a detector sees in the clip: edges, depth or poses."""

from typing import Any

from comfy_api.latest import io

from tokenflow.config import ControlNet as Settings
from tokenflow.config import ControlUnit

from ..host.folders import chooser, chosen_path
from ..host.schema import advanced, schema
from ..host.types import MODE
from ..host.widgets import settings, widget

EXAMPLE = "lllyasviel/control_v11p_sd15_canny"

LOW, HIGH = Settings.model_fields["canny_thresholds"].default


class ControlNet(io.ComfyNode):
    """One ControlNet, union ControlNet or T2I-Adapter; several are chained."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Widgets of the settings `edit.controlnet`."""
        thresholds = {"min": 0.0, "max": 10_000.0, "step": 1.0}
        return schema(
            "ControlNet",
            "Mode: ControlNet",
            search_words=("canny", "edges", "outlines", "depth", "openpose", "t2i-adapter"),
            description="Keeps outlines, depth or poses of the clip, by a ControlNet made for the model.",
            inputs=[
                MODE.Input("others", optional=True, tooltip="Another Mode: ControlNet that acts, too."),
                *chooser("controlnet", "controlnet", "A ControlNet, union ControlNet or T2I-Adapter", EXAMPLE),
                widget(Settings, "scale"),
                widget(Settings, "start"),
                widget(Settings, "end"),
                widget(Settings, "noise"),
                widget(Settings, "detector"),
                *advanced(
                    io.Float.Input(
                        "canny_low", default=LOW, **thresholds, tooltip="Of canny: weaker edges are left out."
                    ),
                    io.Float.Input(
                        "canny_high",
                        default=HIGH,
                        **thresholds,
                        tooltip="Of canny: edges begin where they are stronger.",
                    ),
                ),
            ],
            outputs=[MODE.Output(display_name="mode")],
        )

    @classmethod
    def execute(
        cls,
        controlnet: str,
        path: str,
        canny_low: float,
        canny_high: float,
        others: Any = None,
        **given: Any,
    ) -> io.NodeOutput:
        """The mode with these settings; the ControlNets are loaded by the edit."""
        if others is not None and not isinstance(others, Settings):
            raise ValueError(f"others: expected another Mode: ControlNet, got {type(others).__name__}")
        units = () if others is None else others.units
        mode = Settings(
            path=chosen_path(controlnet, "controlnet", path),
            canny_thresholds=(canny_low, canny_high),
            also=[each.model_dump(include=set(ControlUnit.model_fields)) for each in units],
            **settings(Settings, given),
        )
        return io.NodeOutput(mode)
