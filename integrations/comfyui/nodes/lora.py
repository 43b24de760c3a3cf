"""LoRA: weights that add a subject, a style or few-step sampling to a model."""

from collections.abc import Sequence

from comfy_api.latest import io

import tokenflow
from tokenflow.config import LoRA as Settings

from ..host.folders import chooser, chosen_path
from ..host.schema import schema
from ..host.types import LORAS
from ..host.widgets import widget

EXAMPLE = "ByteDance/Hyper-SD/Hyper-SD15-8steps-lora.safetensors"


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
                *chooser("lora", "loras", "A LoRA", EXAMPLE),
                widget(Settings, "scale"),
                io.String.Input(
                    "triggers",
                    default="",
                    tooltip="Words that it was trained with, with commas between several. A notice tells if a "
                    "prompt has none of them.",
                ),
            ],
            outputs=[LORAS.Output(display_name="loras")],
        )

    @classmethod
    def fingerprint_inputs(cls, lora: str, path: str, scale: float, triggers: str) -> str:
        """Changes with the content of the file, so that a LoRA that was trained further is loaded again."""
        from tokenflow.models.identity import path_fingerprint  # takes seconds to import

        return path_fingerprint(chosen_path(lora, "loras", path))

    @classmethod
    def execute(
        cls, lora: str, path: str, scale: float, triggers: str, others: "Sequence[tokenflow.LoRA]" = ()
    ) -> io.NodeOutput:
        """The LoRA with these settings; Load Model loads it."""
        words = tuple(word.strip() for word in triggers.split(",") if word.strip())
        made = tokenflow.LoRA(path=chosen_path(lora, "loras", path), scale=scale, triggers=words)
        return io.NodeOutput((*others, made))
