"""What does the jobs, one after another, and keeps its model: in this process, in another, or on a cluster."""

import time
import traceback
import warnings
from dataclasses import dataclass

from tokenflow.config import Config
from tokenflow.config import Model as ModelSettings
from tokenflow.errors import TokenflowError, TokenflowWarning, WaitingWarning
from tokenflow.events import Listener
from tokenflow.models.model import Model
from tokenflow.pipeline import edit
from tokenflow.pipeline.opening import open_model


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
        """Whether there is no result."""
        return self.reason is not None


class Worker:
    """Edits, and holds the model of the last edit for the next. After `stop`, what it is at ends at its next step."""

    def __init__(self) -> None:
        self._settings: ModelSettings | None = None
        self._model: Model | None = None
        self._stopped = False

    def run(self, config: Config, listener: Listener) -> JobResult:
        """Do one job. What goes wrong in it is in the outcome; only Ctrl-C and `stop` come out, as KeyboardInterrupt.

        Args:
            config: of the job.
            listener: is told how far it is.
        """
        stages: set[str] = set()

        def told(stage: str, done: int, total: int | None) -> None:
            if self._stopped:
                raise KeyboardInterrupt
            stages.add(stage)
            listener(stage, done, total)

        begin = time.perf_counter()
        reason = trace = None
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", TokenflowWarning)
            warnings.simplefilter("ignore", WaitingWarning)  # for another of the jobs that share an inversion
            try:
                edit(config, model=self._model_for(config), progress=told)
            except TokenflowError as error:
                reason = str(error)
            except Exception as error:
                reason, trace = _in_one_line(error), traceback.format_exc()
        return JobResult(
            seconds=round(time.perf_counter() - begin, 3),
            reason=reason,
            inverted="reconstruct" in stages,
            warnings=tuple(str(each.message) for each in caught),
            traceback=trace,
        )

    def stop(self) -> None:
        """End what is being done at its next step, leaving nothing half done. May be called from another thread."""
        self._stopped = True

    def _model_for(self, config: Config) -> Model:
        if self._model is None or self._settings != config.model:
            self._model = None  # so that two models never need memory at once
            self._model = open_model(config)
            self._settings = config.model
        return self._model


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'without a message'}"
