"""Textual Inversion: a word that the text encoder learnt."""

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

import tokenflow
from tokenflow.config import TextualInversion as Settings

from ..host.chooser import Chooser
from ..host.schema import schema
from ..host.types import TEXTUAL_INVERSIONS
from ..host.widgets import settings, widget
from ..host.wording import made

CHOOSER = Chooser(
    "embedding",
    ("embeddings",),
    "a textual inversion",
    "a .safetensors file, a folder with one, or a Hub id",
    example="sd-concepts-library/cat-toy",
)


class TextualInversion(io.ComfyNode):
    """One word; several are chained."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Widgets of the settings of a textual inversion."""
        return schema(
            "TextualInversion",
            "Textual Inversion",
            search_words=("embedding", "concept"),
            description="A word that the text encoder learnt, to be used in prompts.",
            inputs=[
                TEXTUAL_INVERSIONS.Input("others", optional=True, tooltip="Other words of the same model."),
                *CHOOSER.widgets(),
                widget(Settings, "token"),
            ],
            outputs=[
                TEXTUAL_INVERSIONS.Output(
                    display_name="textual_inversions", tooltip="For Load Model, or for the next Textual Inversion."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **given: Any) -> str:
        """Changes with the content of the file."""
        return CHOOSER.fingerprint(given)

    @classmethod
    def execute(cls, token: str, others: "Sequence[tokenflow.TextualInversion]" = (), **given: Any) -> io.NodeOutput:
        """The word with these settings; Load Model loads it."""
        word = made(Settings, path=CHOOSER.path(given), **settings(Settings, {"token": token}))
        return io.NodeOutput((*others, word))
