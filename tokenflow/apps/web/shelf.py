"""The loaded model, kept between jobs: one at a time."""

import gc
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from tokenflow.apps.exit_status import error_message
from tokenflow.apps.web.imports import importing
from tokenflow.apps.web.progress_view import bytes_of
from tokenflow.config import Model as ModelSettings
from tokenflow.errors import TokenflowError
from tokenflow.events import Event, Listener, Progress

if TYPE_CHECKING:
    from tokenflow.models.model import Model


NOT_YET = "not loaded yet"


class Shelf:
    """Holds the model that was used last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._settings: ModelSettings | None = None
        self._model: Model | None = None
        self._first = threading.Lock()
        """Taken by the first call of `warm_up` and never released."""
        self.status = NOT_YET
        """In a few words."""

    @property
    def is_settled(self) -> bool:
        """Whether a model was loaded, or could not be."""
        return self.status != NOT_YET and not self.status.startswith(("loading", "downloading"))

    def get(self, settings: ModelSettings, on_event: Listener) -> "Model":
        """The model that settings name, loaded if another one is on the shelf, which is dropped first.

        Raises:
            Everything that `load_model` raises.
        """
        with self._lock:
            if self._model is None or settings != self._settings:
                self._drop()
                self._load(settings, on_event)
            if self._model is None:
                raise RuntimeError("the model was not loaded")
            return self._model

    def warm_up(self, settings: ModelSettings) -> None:
        """Load a model in the background, the first time this is called."""
        if self._first.acquire(blocking=False):
            threading.Thread(target=self._warm_up, args=(settings,), name="model", daemon=True).start()

    def _warm_up(self, settings: ModelSettings) -> None:
        self.status = f"loading {settings.path}"
        with suppress(TokenflowError):  # the status has it
            self.get(settings, lambda event: None)

    def _load(self, settings: ModelSettings, on_event: Listener) -> None:
        with importing():
            from tokenflow.pipeline.job import open_model

        def listen(event: Event) -> None:
            match event:
                case Progress("load", done, total):
                    self.status = f"{'loaded' if done == total else 'loading'} {event.label}"
                case Progress("download", done, total) if total:
                    self.status = f"downloading {event.label}, {bytes_of(done, total)}"
            on_event(event)

        try:
            self._model = open_model(settings, listen)
        except Exception as error:
            self.status = error_message(error) or "not loaded"
            raise
        self._settings = settings

    def _drop(self) -> None:
        """Free the memory of the model before the next one is loaded."""
        with importing():
            import torch

        self._model = self._settings = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
