"""ControlNet: the mode that keeps what a detector sees in the clip: edges, depth or poses."""

from typing import Any

from comfy_api.latest import io

from tokenflow.config import ControlNet as Settings
from tokenflow.config import ControlUnit

from ..host.chooser import Chooser
from ..host.folders import CONFIG
from ..host.schema import advanced, schema
from ..host.types import MODE
from ..host.widgets import settings, widget
from ..host.wording import made

CHOOSER = Chooser(
    "controlnet",
    ("controlnet",),
    "a ControlNet, union ControlNet or T2I-Adapter",
    "a folder in diffusers' layout, a .safetensors file, or a Hub id, which is downloaded",
    folders=("controlnet", CONFIG),
    default="lllyasviel/control_v11p_sd15_canny",
)

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
                MODE.Input("others", optional=True, tooltip="Another Mode: ControlNet to apply as well."),
                *CHOOSER.widgets(),
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
            outputs=[MODE.Output(display_name="mode", tooltip="For Edit, or for the next Mode: ControlNet.")],
        )

    @classmethod
    def fingerprint_inputs(cls, **given: Any) -> str:
        """Changes with the content of the files, so that a ControlNet that was replaced is loaded again."""
        return CHOOSER.fingerprint(given)

    @classmethod
    def execute(cls, canny_low: float, canny_high: float, others: Any = None, **given: Any) -> io.NodeOutput:
        """The mode with these settings; the ControlNets are loaded by the edit."""
        if others is not None and not isinstance(others, Settings):
            raise ValueError(f"others: expected another Mode: ControlNet, got {type(others).__name__}")
        if canny_low > canny_high:
            raise ValueError(f"expected canny_low no higher than canny_high, got {canny_low:g} and {canny_high:g}")
        units = () if others is None else others.units
        own = {name: given[name] for name in ("scale", "start", "end", "noise", "detector")}
        mode = made(
            Settings,
            path=CHOOSER.path(given),
            canny_thresholds=(canny_low, canny_high),
            also=[each.model_dump(include=set(ControlUnit.model_fields)) for each in units],
            **settings(Settings, own),
        )
        return io.NodeOutput(mode)
