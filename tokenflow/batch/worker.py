"""A worker: runs jobs one after another, and keeps the model of the last for the next."""

import time
import traceback
from dataclasses import dataclass

import cv2
import torch

from tokenflow.config import Config
from tokenflow.config import Model as ModelSettings
from tokenflow.errors import Cancelled, TokenflowError, WaitingWarning
from tokenflow.events import Cancel, Event, Listener, Notice, Progress, listening
from tokenflow.models.model import Model
from tokenflow.pipeline.job import open_model, run


@dataclass(frozen=True)
class JobResult:
    """How a job ended; the fields but the last two are those of a `Record`.

    Attributes:
        cancelled: whether the supply wanted it to stop.
        error: the class of the error that it failed with, such as `ConfigError`; None if no worker lived to tell.
    """

    seconds: float = 0.0
    reason: str | None = None
    inverted: bool | None = None
    warnings: tuple[str, ...] = ()
    traceback: str | None = None
    cancelled: bool = False
    error: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the job has no result."""
        return self.reason is not None


CANCELLED = JobResult(reason="cancelled", cancelled=True)


class Worker:
    """Runs jobs one at a time, and keeps the model of the last for the next.

    Args:
        preview_every: send a `Preview` every so many steps; None for none.
    """

    def __init__(self, preview_every: int | None = None) -> None:
        self._preview_every = preview_every
        self._settings: ModelSettings | None = None
        self._model: Model | None = None

    def run(self, config: Config, on_event: Listener, cancel: Cancel | None = None) -> JobResult:
        """Run one job. Its errors are in the result; an exception of the listener is raised unchanged.

        Args:
            config: of the job.
            on_event: called with each event.
            cancel: asked before every network call; returning True stops this job, and none after it.

        Raises:
            Cancelled: `cancel` returned True.
        """
        events = _Events(on_event)
        begin = time.perf_counter()
        reason = trace = name = None
        try:
            with listening(events):
                model = self._model_for(config.model)
            run(config, model=model, preview_every=self._preview_every, on_event=events, cancel=cancel)
        except Cancelled:
            raise
        except Exception as error:
            if events.listener_error is not None:
                raise events.listener_error  # noqa: B904 - whatever was made of it on its way here
            name = type(error).__name__
            if isinstance(error, TokenflowError):
                reason = str(error)
            else:
                reason, trace = _in_one_line(error), traceback.format_exc()
        return JobResult(
            seconds=round(time.perf_counter() - begin, 3),
            reason=reason,
            inverted="invert" in events.stages,
            warnings=tuple(events.warnings),
            traceback=trace,
            error=name,
        )

    def _model_for(self, settings: ModelSettings) -> Model:
        if self._model is None or self._settings != settings:
            self._model = None  # so that two models are never in memory at once
            self._model = open_model(settings)
            self._settings = settings
        return self._model


class _Events:
    """Passes the events of a job on, and keeps what its result reports.

    Attributes:
        stages: those that the job went through.
        warnings: its notices, except of waiting for another job that makes the inversion they share.
        listener_error: what the listener raised.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.stages: set[str] = set()
        self.warnings: list[str] = []
        self.listener_error: Exception | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case Progress():
                self.stages.add(event.stage)
            case Notice() if not issubclass(event.category, WaitingWarning):
                self.warnings.append(event.message)
        try:
            self._listener(event)
        except Exception as error:
            self.listener_error = error
            raise


def limit_threads(count: int) -> None:
    """Limit the threads of torch, OpenCV and FFmpeg's decoders (which follow OpenCV's), each to this many.

    Encoders keep all cores: with another number of threads they write other bytes. For torch, the limit applies to the
    calling thread.
    """
    torch.set_num_threads(count)
    cv2.setNumThreads(count)


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
