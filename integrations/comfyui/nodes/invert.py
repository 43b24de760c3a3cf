"""Invert: a clip becomes latents at every noise level, stored so that the same clip is never inverted twice."""

from collections.abc import Sequence
from typing import Any, Literal

from comfy_api.latest import io

import tokenflow
from tokenflow.apps.frame_numbers import frame_numbers
from tokenflow.config import Clip
from tokenflow.config import Inversion as Settings
from tokenflow.errors import ConfigError

from ..host.folders import inversions_folder
from ..host.inversions import MADE
from ..host.running import run
from ..host.schema import advanced, schema
from ..host.tensors import read_frames, read_video
from ..host.types import INVERSION, MODEL, Audio, Inversion
from ..host.widgets import AUTO, settings, widget

THIS_SESSION, ALWAYS = "this session", "always"

EMPTY_PROMPT = "the prompt is empty; say in one sentence what the clip shows"


class Invert(io.ComfyNode):
    """The inversion of a clip, from which any number of edits start."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """A VIDEO, or IMAGE with rate and sound; widgets of the settings `inversion`."""
        return schema(
            "Invert",
            "Invert",
            search_words=("ddim inversion", "noise"),
            description="Inverts a clip once; every edit of it starts from here, and changing an edit inverts nothing.",
            inputs=[
                MODEL.Input("model", tooltip="Edits of the clip are made with it."),
                io.Video.Input("video", optional=True, tooltip="The clip. Its rate and sound pass through."),
                io.Image.Input("images", optional=True, tooltip="Frames in place of a video, with the rate below."),
                io.Audio.Input("audio", optional=True, tooltip="Sound for images, or in place of the video's."),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    placeholder="what the clip shows, in one sentence",
                    tooltip="What the clip shows. The prompt of an edit is usually the same sentence with some words "
                    "replaced.",
                ),
                io.Int.Input(
                    "size",
                    default=0,
                    min=0,
                    max=16_384,
                    tooltip="Pixels of the shorter side at which the model works; 0 for the size it was trained at. "
                    "The result has the size of the clip.",
                ),
                widget(
                    Settings,
                    "steps",
                    min=0,
                    tooltip="Inversion steps. More reconstruct the clip better, and take time and disk space in "
                    "proportion. 0 for none, which is enough for Mode: FlowEdit and Mode: Instruct.",
                ),
                io.Float.Input(
                    "rate", default=24.0, min=0.001, max=1000.0, step=0.001, tooltip="Of images: frames per second."
                ),
                io.Combo.Input(
                    "keep",
                    options=[THIS_SESSION, ALWAYS],
                    default=THIS_SESSION,
                    tooltip="How long the inversion stays on disk. While it is there, the same clip, model and "
                    "settings are not inverted again, whatever else the workflow changes.",
                ),
                *advanced(
                    widget(Clip, "resize"),
                    widget(Settings, "iterations"),
                    widget(Settings, "batch_size"),
                    io.String.Input(
                        "cuts",
                        default=AUTO,
                        tooltip="The frames at which another shot begins, such as 49, 80, counted from 0: nothing is "
                        "carried over a cut. auto finds them; empty for one shot.",
                    ),
                ),
            ],
            outputs=[INVERSION.Output(display_name="inversion", tooltip="With the clip's rate and sound.")],
        )

    @classmethod
    def validate_inputs(cls, prompt: str | None) -> bool | str:
        """Refuse an empty prompt before anything runs; a linked one is None here."""
        return EMPTY_PROMPT if prompt is not None and not prompt.strip() else True

    @classmethod
    def fingerprint_inputs(cls, **given: Any) -> int:
        """Changes when stored inversions were deleted, so that they are made again rather than taken from the cache."""
        return MADE.losses()

    @classmethod
    def execute(
        cls,
        model: Any,
        prompt: str,
        size: int,
        rate: float,
        keep: str,
        resize: str,
        cuts: str,
        video: Any = None,
        images: Any = None,
        audio: Audio | None = None,
        **given: Any,
    ) -> io.NodeOutput:
        """Invert, or continue or open what is stored."""
        if not prompt.strip():
            raise ValueError(EMPTY_PROMPT)
        if (video is None) == (images is None):
            raise ValueError(f"expected either video or images, got {'neither' if video is None else 'both'}")
        clip, sound = (read_frames(images, rate), None) if video is None else read_video(video)
        inverted = run(
            tokenflow.invert,
            clip,
            model,
            prompt,
            size=size or None,
            resize=resize,
            cuts=read_cuts(cuts),
            store=inversions_folder(for_good=keep == ALWAYS),
            **settings(Settings, given),
        )
        stored: Any = inverted.inversion  # in a folder, since one was given
        MADE.add(stored.folder)
        return io.NodeOutput(Inversion(inverted, sound if audio is None else audio))


def read_cuts(text: str) -> "Sequence[int] | Literal['auto']":
    """Where shots begin: auto, the frames, or nowhere where the text is empty.

    Raises:
        ValueError: it is something else.
    """
    text = text.strip()
    if text.lower() == AUTO:
        return "auto"
    try:
        return frame_numbers(text) if text else ()
    except ConfigError as error:
        raise ValueError(f"cuts: expected auto, or frame numbers such as 49, 80; got {text!r}") from error
