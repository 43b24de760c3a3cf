"""Edit: an inversion and a sentence become an edited clip."""

from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io

import tokenflow
from tokenflow.config import Edit as Settings

from ..host import types
from ..host.running import run
from ..host.schema import advanced, schema
from ..host.tensors import as_image, as_mask, write_video
from ..host.types import INVERSION, MODE, REFERENCES, REGIONS, Inversion
from ..host.widgets import names_with_widget, settings, widget

EMPTY_PROMPT = "the prompt is empty; say in one sentence what the edited clip should show"

SHOWN = "prompt", "mode", "negative_prompt", "guidance_scale", "steps", "seed"
"""Settings of an edit that are not folded away."""

NOT_LINKED = "not linked"
"""The mode that `validate_inputs` sees where none is linked; a linked one is None there."""


class Edit(io.ComfyNode):
    """The edit, with the rate and sound of its clip."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Links for what the edit keeps and changes; widgets of the settings `edit`."""
        return schema(
            "Edit",
            "Edit",
            search_words=("prompt", "restyle", "style transfer"),
            description="Edits an inverted clip by a sentence, consistently over time.",
            inputs=[
                INVERSION.Input("inversion"),
                MODE.Input(
                    "mode", optional=True, tooltip="What the edit keeps of its clip; Plug-and-Play if not linked."
                ),
                REGIONS.Input(
                    "regions", optional=True, tooltip="The parts that may change; the whole frame if not linked."
                ),
                REFERENCES.Input("references", optional=True, tooltip="Images whose look the edit takes."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    placeholder="what the edited clip should show",
                    tooltip="What the edited clip should show; mostly the sentence of the inversion with some words "
                    "replaced.",
                ),
                widget(Settings, "negative_prompt", multiline=True),
                widget(Settings, "guidance_scale", max=100.0, step=0.1),
                io.Int.Input(
                    "steps",
                    default=0,
                    min=0,
                    max=1000,
                    tooltip="Sampling steps; 0 for as many as the inversion took, or as a model of few steps was made "
                    "for. More give finer detail and take longer.",
                ),
                widget(Settings, "seed", control_after_generate=True),
                *advanced(
                    io.Int.Input(
                        "preview_every",
                        default=1,
                        min=0,
                        max=1000,
                        tooltip="Show how the edit stands every so many steps; 0 for never.",
                    ),
                    *(widget(Settings, name) for name in names_with_widget(Settings) if name not in SHOWN),
                ),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="With the clip's rate and sound."),
                io.Image.Output(display_name="images"),
                io.Mask.Output(display_name="mask", tooltip="What could change; white everywhere without regions."),
                types.EDIT.Output(display_name="edit", tooltip="For the report."),
            ],
        )

    @classmethod
    def validate_inputs(cls, prompt: str | None, mode: str | None = NOT_LINKED) -> bool | str:
        """Refuse an empty prompt before anything runs; a linked one is None here."""
        empty = prompt is not None and not prompt.strip()
        return EMPTY_PROMPT if empty and mode == NOT_LINKED else True

    @classmethod
    def execute(
        cls,
        inversion: Inversion,
        prompt: str,
        steps: int,
        preview_every: int,
        mode: Any = None,
        regions: "Sequence[tokenflow.Region]" = (),
        references: "Sequence[tokenflow.Reference]" = (),
        **given: Any,
    ) -> io.NodeOutput:
        """Edit the clip."""
        mode = tokenflow.PnP() if mode is None else mode
        if not prompt.strip() and not isinstance(mode, tokenflow.Keyframes):
            raise ValueError(EMPTY_PROMPT)
        edited = run(
            tokenflow.edit,
            inversion.clip,
            prompt,
            mode=mode,
            steps=steps or None,
            regions=regions,
            references=references,
            preview_every=preview_every or None,
            **settings(Settings, given),
        )
        images = as_image(edited.frames)
        mask = torch.ones(images.shape[:3]) if edited.masks is None else as_mask(edited.masks)
        video = write_video(images, inversion.clip.video.rate, inversion.audio)
        return io.NodeOutput(video, images, mask, types.Edit(edited, prompt, type(mode).__name__.lower()))
