"""Long calls of the library under ComfyUI: its progress bar, previews, messages, interrupt and memory."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import comfy.utils
import numpy as np
from comfy import model_management
from comfy.cli_args import args
from comfy_execution.utils import get_executing_context
from PIL import Image
from server import PromptServer

import tokenflow
from tokenflow.events import Event

from .wording import in_words_of_nodes, told_on_node

Result = TypeVar("Result")

PREVIEWED_FRAMES = 4
"""At most, side by side."""


def run(function: Callable[..., Result], *arguments: Any, room: int = 0, **options: Any) -> Result:
    """Call a long function of the library, which takes `on_event` and `cancel`.

    Args:
        function: of the library.
        arguments: its own.
        room: bytes of the models that it loads (see `at_work`).
        options: its own.

    Raises:
        InterruptProcessingException: the user interrupted the workflow. The library asks for it before every network
            call, and ComfyUI's progress bar at every update.
        TokenflowError: everything that the function raises; ComfyUI shows the message on the node.
    """
    with at_work(room) as listener:
        try:
            return function(*arguments, on_event=listener, cancel=model_management.processing_interrupted, **options)
        except tokenflow.Cancelled:
            model_management.throw_exception_if_processing_interrupted()
            raise


@contextmanager
def at_work(room: int = 0) -> Iterator["Listener"]:
    """Make room in memory, give a listener for the node that is running, and tell ComfyUI afterwards what is free.

    Args:
        room: bytes for which ComfyUI is asked to unload models of its own, beside what computing takes.
    """
    needed = room + model_management.minimum_inference_memory()
    model_management.free_memory(needed, model_management.get_torch_device())
    try:
        with told_on_node():
            yield Listener()
    finally:
        model_management.soft_empty_cache()


class Listener:
    """Shows events of the library on the node that is running."""

    def __init__(self) -> None:
        self._bar = comfy.utils.ProgressBar(1)
        self._notices: list[str] = []

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case tokenflow.Progress(done=done, total=total) if total:
                self._bar.update_absolute(done, total)
            case tokenflow.Preview(frames=frames):
                preview = "JPEG", preview_image(frames), args.preview_size
                self._bar.update_absolute(self._bar.current, self._bar.total, preview)
            case tokenflow.Notice(message):
                self._tell(in_words_of_nodes(message))

    def _tell(self, message: str) -> None:
        """Show a notice below those before, since a node has one text."""
        logging.warning("TokenFlow: %s", message)
        if message not in self._notices:
            self._notices.append(message)
        context = get_executing_context()
        if context is not None:
            PromptServer.instance.send_progress_text("\n".join(self._notices), context.node_id)


def preview_image(frames: np.ndarray) -> Image.Image:
    """Some frames (f h w 3 uint8) side by side; ComfyUI scales the image to its `--preview-size`."""
    chosen = np.linspace(0, len(frames) - 1, min(len(frames), PREVIEWED_FRAMES)).round().astype(int)
    return Image.fromarray(np.concatenate(frames[chosen], axis=1))
