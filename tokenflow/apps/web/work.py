"""What jobs do: a trial of some frames, or one or several whole edits."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tokenflow.apps.web.imports import importing
from tokenflow.apps.web.jobs import Job
from tokenflow.apps.web.shelf import Shelf
from tokenflow.config import Config
from tokenflow.errors import ConfigError
from tokenflow.events import Cancel, Event, Listener, Progress, raise_if_cancelled

if TYPE_CHECKING:
    from tokenflow.pipeline import Trial

TRIED = 3
"""Frames of a trial."""


class Editor(Protocol):
    """Who makes what the page asks for.

    Attributes:
        has_trials: whether it edits single frames, too.
    """

    has_trials: bool

    def trial(self, config: Config, on_event: Listener, cancel: Cancel) -> "Trial":
        """Edit `TRIED` frames."""
        ...

    def edit(self, config: Config, on_event: Listener, cancel: Cancel) -> None:
        """Edit the whole clip, to the result folder of the configuration."""
        ...


class OwnEditor:
    """Edits in this process, with the model on a shelf."""

    has_trials = True

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def trial(self, config: Config, on_event: Listener, cancel: Cancel) -> "Trial":
        """See `Editor`."""
        with importing():
            from tokenflow.pipeline import trial

        model = self._shelf.get(config.model, _until(cancel, on_event))
        return trial(config, TRIED, model=model, on_event=on_event, cancel=cancel)

    def edit(self, config: Config, on_event: Listener, cancel: Cancel) -> None:
        """See `Editor`."""
        with importing():
            from tokenflow.pipeline import run

        model = self._shelf.get(config.model, _until(cancel, on_event))
        run(config, model=model, preview_every=1, on_event=on_event, cancel=cancel)


def trial_job(config: Config, editor: Editor) -> Job:
    """A trial of a few frames of the clip; its outcome is a `Trial`.

    Raises:
        ConfigError: the edit is made of given frames, of which there is nothing to try.
    """
    if config.edit.mode == "keyframes":
        text = "edit.mode: keyframes carries the frames that were given; expected another mode, or the whole clip"
        raise ConfigError(text, [text])

    def work(on_event: Listener, cancel: Cancel) -> "Trial":
        return editor.trial(config, on_event, cancel)

    return Job("trial", (config,), work)


def edit_job(configs: Sequence[Config], editor: Editor) -> Job:
    """Edits of the whole clip, one after the other; its outcome is the list of their folders.

    Raises:
        ConfigError, ClipNotFoundError: edited frames are missing.
    """
    for config in configs:
        _check_edited_frames(config)

    def work(on_event: Listener, cancel: Cancel) -> list[Path]:
        folders = []
        for number, config in enumerate(configs):
            editor.edit(config, _numbered(on_event, number, len(configs)), cancel)
            folders.append(config.output.dir)
        return folders

    return Job("whole" if len(configs) == 1 else "compare", tuple(configs), work)


def _check_edited_frames(config: Config) -> None:
    """Say now which are missing, if the edit is made of them."""
    if config.edit.mode == "keyframes":  # importing what checks them takes seconds
        with importing():
            from tokenflow.pipeline.keyframes import keyframes_of

        keyframes_of(config.edit)


def _until(cancel: Cancel, on_event: Listener) -> Listener:
    """A listener that stops a download once it is cancelled, since whatever a listener raises ends the call."""

    def listen(event: Event) -> None:
        raise_if_cancelled(cancel)
        on_event(event)

    return listen


def _numbered(on_event: Listener, number: int, count: int) -> Listener:
    """Say which of several edits an event is about."""
    if count == 1:
        return on_event

    def listen(event: Event) -> None:
        if isinstance(event, Progress):
            event = replace(event, label=f"edit {number + 1} of {count}")
        on_event(event)

    return listen
