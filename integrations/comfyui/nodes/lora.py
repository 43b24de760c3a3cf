"""LoRA: weights that add a subject, a style or few-step sampling to a model."""

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

import tokenflow
from tokenflow.config import LoRA as Settings

from ..host.chooser import Chooser
from ..host.schema import schema
from ..host.types import LORAS
from ..host.widgets import widget
from ..host.wording import made

CHOOSER = Chooser(
    "lora",
    ("loras",),
    "a LoRA",
    "a .safetensors file, a folder with one, a Hub id, or a Hub id and a file in it",
    example="ByteDance/Hyper-SD/Hyper-SD15-8steps-lora.safetensors",
)


class LoRA(io.ComfyNode):
    """One LoRA; several are chained."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Widgets of the settings of a LoRA."""
        return schema(
            "LoRA",
            "LoRA",
            search_words=("lora loader", "adapter", "hyper", "lightning", "lcm"),
            description="Weights that add a subject, a style or few-step sampling to a model. They act on edits; the "
            "model without them inverts.",
            inputs=[
                LORAS.Input("others", optional=True, tooltip="Other LoRAs of the same model."),
                *CHOOSER.widgets(),
                widget(Settings, "scale"),
                io.String.Input(
                    "triggers",
                    default="",
                    tooltip="Words that it was trained with, with commas between several. A notice appears if the "
                    "prompt has none of them.",
                ),
            ],
            outputs=[LORAS.Output(display_name="loras", tooltip="For Load Model, or for the next LoRA.")],
        )

    @classmethod
    def fingerprint_inputs(cls, **given: Any) -> str:
        """Changes with the content of the file, so that a LoRA that was trained further is loaded again."""
        return CHOOSER.fingerprint(given)

    @classmethod
    def execute(
        cls, scale: float, triggers: str, others: "Sequence[tokenflow.LoRA]" = (), **given: Any
    ) -> io.NodeOutput:
        """The LoRA with these settings; Load Model loads it."""
        words = tuple(word.strip() for word in triggers.split(",") if word.strip())
        return io.NodeOutput((*others, made(Settings, path=CHOOSER.path(given), scale=scale, triggers=words)))
