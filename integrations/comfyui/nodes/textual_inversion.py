"""Textual Inversion: a word that the text encoder learnt."""

from collections.abc import Sequence

from comfy_api.latest import io

import tokenflow
from tokenflow.config import TextualInversion as Settings

from ..host.folders import chooser, chosen_path
from ..host.schema import schema
from ..host.types import TEXTUAL_INVERSIONS
from ..host.widgets import settings, widget

EXAMPLE = "sd-concepts-library/cat-toy"


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
                *chooser("embedding", "embeddings", "A textual inversion", EXAMPLE),
                widget(Settings, "token"),
            ],
            outputs=[TEXTUAL_INVERSIONS.Output(display_name="textual_inversions")],
        )

    @classmethod
    def execute(
        cls, embedding: str, path: str, token: str, others: "Sequence[tokenflow.TextualInversion]" = ()
    ) -> io.NodeOutput:
        """The word with these settings; Load Model loads it."""
        where = chosen_path(embedding, "embeddings", path)
        return io.NodeOutput((*others, tokenflow.TextualInversion(path=where, **settings(Settings, {"token": token}))))
