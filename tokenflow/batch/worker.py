"""A worker: runs jobs one after another and keeps its model, in this process, in another, or on a cluster."""

import time
import traceback
from dataclasses import dataclass
from threading import Event as Flag

from tokenflow.config import Config
from tokenflow.config import Model as ModelSettings
from tokenflow.errors import Cancelled, TokenflowError, WaitingWarning
from tokenflow.events import Event, Listener, Notice, Progress, listening
from tokenflow.models.model import Model
from tokenflow.pipeline.job import open_model, run


@dataclass(frozen=True)
class JobResult:
    """How a job ended; the fields are those of a `Record`."""

    seconds: float = 0.0
    reason: str | None = None
    inverted: bool | None = None
    warnings: tuple[str, ...] = ()
    traceback: str | None = None

    @property
    def failed(self) -> bool:
        """Whether the job has no result."""
        return self.reason is not None


class Worker:
    """Runs jobs, and keeps the model of the last one for the next."""

    def __init__(self) -> None:
        self._settings: ModelSettings | None = None
        self._model: Model | None = None
        self._stop = Flag()

    def run(self, config: Config, listener: Listener) -> JobResult:
        """Run one job. Errors are in its result; only Ctrl-C and `stop` come out, as KeyboardInterrupt and Cancelled.

        Args:
            config: of the job.
            listener: receives progress.
        """
        self._stop.clear()
        stages: set[str] = set()
        notices: list[str] = []

        def on_event(event: Event) -> None:
            match event:
                case Progress():
                    stages.add(event.stage)
                    listener(event)
                case Notice() if event.category is not WaitingWarning:  # another job makes the inversion they share
                    notices.append(event.message)

        begin = time.perf_counter()
        reason = trace = None
        try:
            with listening(on_event):
                model = self._model_for(config)
            run(config, model=model, on_event=on_event, cancel=self._stop.is_set)
        except TokenflowError as error:
            reason = str(error)
        except Cancelled:
            raise
        except Exception as error:
            reason, trace = _in_one_line(error), traceback.format_exc()
        return JobResult(
            seconds=round(time.perf_counter() - begin, 3),
            reason=reason,
            inverted="invert" in stages,
            warnings=tuple(notices),
            traceback=trace,
        )

    def stop(self) -> None:
        """Stop the current job before its next network call, leaving nothing half done; from any thread."""
        self._stop.set()

    def _model_for(self, config: Config) -> Model:
        if self._model is None or self._settings != config.model:
            self._model = None  # so that two models are never in memory at once
            self._model = open_model(config.model)
            self._settings = config.model
        return self._model


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'no message'}"
