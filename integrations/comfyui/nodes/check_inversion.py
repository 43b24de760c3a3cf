"""Check Inversion: the inversion sampled back without an edit, and how close it comes to the clip."""

from comfy_api.latest import io

import tokenflow
from tokenflow.config import Inversion as Settings

from ..host.running import run
from ..host.schema import advanced, schema
from ..host.tensors import as_image
from ..host.types import INVERSION, Inversion
from ..host.widgets import widget


class CheckInversion(io.ComfyNode):
    """A node of its own, since it costs a network call per frame and step, and most edits need none of it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """From an inversion to images and two figures."""
        return schema(
            "CheckInversion",
            "Check Inversion",
            search_words=("reconstruct", "psnr"),
            description="Rebuilds the clip from its inversion, without an edit: edits of whole frames come no closer "
            "to it.",
            inputs=[
                INVERSION.Input("inversion", tooltip="Of 1 step or more."),
                *advanced(widget(Settings, "batch_size")),
            ],
            outputs=[
                io.Image.Output(display_name="reconstruction", tooltip="The frames, at the working size."),
                io.Float.Output(display_name="psnr", tooltip="Of the reconstruction against the clip, in dB."),
                io.Float.Output(
                    display_name="autoencoder_psnr",
                    tooltip="Of encoding and decoding alone, in dB. Where it is below 26, try a larger size or another "
                    "model.",
                ),
            ],
        )

    @classmethod
    def execute(cls, inversion: Inversion, batch_size: int) -> io.NodeOutput:
        """Sample it back."""
        made = run(tokenflow.reconstruct, inversion.clip, batch_size=batch_size)
        return io.NodeOutput(as_image(made.frames), made.psnr, made.autoencoder_psnr)
