"""Reference: an image whose look an edit takes."""

from collections.abc import Sequence
from typing import Literal

from comfy_api.latest import io
from torch import Tensor

import tokenflow
from tokenflow.config import Reference as Settings

from ..host.schema import schema
from ..host.tensors import read_image
from ..host.types import REFERENCES
from ..host.widgets import widget


class Reference(io.ComfyNode):
    """The look of something, or the style of everything, in an image; several are chained."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Images, and widgets of the settings of a reference."""
        return schema(
            "Reference",
            "Reference",
            search_words=("ip-adapter", "ipadapter", "style image", "image prompt"),
            description="An image whose look an edit takes: the look of what the prompt changes, or its style.",
            inputs=[
                io.Image.Input("images", tooltip="One or several; each is a reference."),
                REFERENCES.Input("others", optional=True, tooltip="Other references of the same edit."),
                widget(Settings, "weight"),
                widget(
                    Settings,
                    "kind",
                    tooltip="Whose look is taken: identity, the look of what the prompt changes, which the model finds "
                    "in the image; or style, the look of everything in it, with its overall colours and contrasts. No "
                    "effect with an IP-Adapter.",
                ),
            ],
            outputs=[REFERENCES.Output(display_name="references", tooltip="For Edit, or for the next Reference.")],
        )

    @classmethod
    def execute(
        cls,
        images: Tensor,
        weight: float,
        kind: Literal["identity", "style"],
        others: "Sequence[tokenflow.Reference]" = (),
    ) -> io.NodeOutput:
        """The references with this weight; the edit reads them."""
        made = (tokenflow.Reference(image, weight, kind) for image in read_image(images))
        return io.NodeOutput((*others, *made))
