"""Edit: an inversion and a sentence become an edited clip."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from comfy_api.latest import io

import tokenflow
from tokenflow.config import Edit as Settings

from ..host import types
from ..host.chooser import content_fingerprint
from ..host.memory import room_for
from ..host.running import run
from ..host.schema import advanced, schema
from ..host.tensors import as_image, as_mask, write_video
from ..host.types import INVERSION, MODE, REFERENCES, REGIONS, Inversion
from ..host.widgets import settings, widget

EMPTY_PROMPT = "the prompt is empty; say in one sentence what the edited clip should show"

ADVANCED = (
    "guidance",
    "propagate_edit_until",
    "variation",
    "batch_size",
    "propagation",
    "correspondence",
    "keyframe_interval",
    "keyframe_window",
    "extended_attention",
    "propagated_layers",
    "kept_features",
    "ip_adapter",
    "carry_interval",
)
"""Settings that are folded away, in the order in which workflows keep their values: new ones come last."""

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
                INVERSION.Input("inversion", tooltip="Of the clip to edit, with the model that edits it."),
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
                    tooltip="What the edited clip should show; usually the sentence of the inversion with some words "
                    "replaced.",
                ),
                widget(Settings, "negative_prompt", multiline=True),
                widget(Settings, "guidance_scale", step=0.1),
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
                        tooltip="Show a preview every so many steps; 0 for never.",
                    ),
                    *(widget(Settings, name) for name in ADVANCED),
                ),
            ],
            outputs=[
                io.Video.Output(display_name="video", tooltip="With the clip's rate and sound."),
                io.Image.Output(display_name="images", tooltip="Its frames."),
                io.Mask.Output(
                    display_name="mask", tooltip="What was allowed to change: white everywhere without regions."
                ),
                types.EDIT.Output(display_name="edit", tooltip="For the report."),
            ],
        )

    @classmethod
    def validate_inputs(cls, prompt: str | None, mode: str | None = NOT_LINKED) -> bool | str:
        """Refuse an empty prompt before anything runs; a linked one is None here."""
        empty = prompt is not None and not prompt.strip()
        return EMPTY_PROMPT if empty and mode == NOT_LINKED else True

    @classmethod
    def fingerprint_inputs(cls, ip_adapter: str | None = None, **given: Any) -> str:
        """Changes with the content of the IP-Adapter, so that one that was replaced is loaded again."""
        return content_fingerprint(ip_adapter)

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
            room=room_for(_loaded(mode, given["ip_adapter"])),
            **settings(Settings, given),
        )
        images = as_image(edited.frames)
        mask = torch.ones(images.shape[:3]) if edited.masks is None else as_mask(edited.masks)
        video = write_video(images, inversion.clip.video.rate, inversion.audio)
        return io.NodeOutput(video, images, mask, types.Edit(edited, prompt, _name(mode)))


def _loaded(mode: Any, ip_adapter: str) -> list[str]:
    """Paths and Hub ids of what an edit loads beside the model."""
    controls = [unit.path for unit in mode.units] if isinstance(mode, tokenflow.ControlNet) else []
    if not ip_adapter:
        return controls
    encoder = Path(ip_adapter).parent / "image_encoder"
    return [*controls, ip_adapter, *([str(encoder)] if encoder.is_dir() else [])]


def _name(mode: Any) -> str:
    """The name of a mode in the library."""
    from tokenflow.pipeline.editing import MODE_NAMES  # takes seconds to import

    return MODE_NAMES.get(type(mode), "keyframes")
