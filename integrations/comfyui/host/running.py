"""Long calls of the library under ComfyUI: its progress bar, previews, messages, interrupt and memory."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

import comfy.utils
import numpy as np
from comfy import model_management
from comfy_execution.utils import get_executing_context
from PIL import Image
from server import PromptServer

import tokenflow
from tokenflow.events import Event

Result = TypeVar("Result")

PREVIEWED_FRAMES = 4
"""At most, side by side."""

PREVIEW_HEIGHT = 256
"""Pixels, where the latents of a frame have fewer."""


def run(function: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
    """Call a long function of the library, which takes `on_event` and `cancel`.

    ComfyUI is asked for memory before, and told afterwards that some is free.

    Raises:
        InterruptProcessingException: the user interrupted the workflow, which the library asks before every network
            call.
        TokenflowError: everything that the function raises; ComfyUI shows the message on the node.
    """
    ask_for_memory()
    try:
        return function(*arguments, on_event=Listener(), cancel=model_management.processing_interrupted, **options)
    except tokenflow.Cancelled:
        model_management.throw_exception_if_processing_interrupted()
        raise
    finally:
        model_management.soft_empty_cache()


def ask_for_memory(size: int = 0) -> None:
    """Ask ComfyUI to unload models of its own until there is room for so many bytes, and for computing with them."""
    model_management.free_memory(
        size + model_management.minimum_inference_memory(), model_management.get_torch_device()
    )


class Listener:
    """Shows events of the library on the node that is running."""

    def __init__(self) -> None:
        self._bar = comfy.utils.ProgressBar(1)

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case tokenflow.Progress(done=done, total=total) if total:
                self._bar.update_absolute(done, total)
            case tokenflow.Preview(frames=frames):
                self._bar.update_absolute(self._bar.current, self._bar.total, ("JPEG", preview_image(frames), None))
            case tokenflow.Notice(message):
                logging.warning("TokenFlow: %s", message)
                _show_text(message)


def preview_image(frames: np.ndarray) -> Image.Image:
    """Some frames (f h w 3 uint8) side by side, large enough to see."""
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), PREVIEWED_FRAMES)).round().astype(int)
    image = Image.fromarray(np.concatenate(frames[chosen], axis=1))
    scale = max(1, PREVIEW_HEIGHT // image.height)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.BICUBIC)


def _show_text(text: str) -> None:
    """Text on the node that is running."""
    context = get_executing_context()
    if context is not None:
        PromptServer.instance.send_progress_text(text, context.node_id)
