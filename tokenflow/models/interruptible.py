"""A model whose every network call first asks whether to stop."""

from collections.abc import Collection
from typing import Any, cast

from torch import Tensor

from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.levels import Level
from tokenflow.events import Cancel, raise_if_cancelled
from tokenflow.models.injection import Injection
from tokenflow.models.model import Control, Model


class Interruptible:
    """A model that raises `Cancelled` before the next network call or autoencoder batch once `cancel` returns True.

    Args:
        model: what does the work; see `Model` for the methods.
        cancel: asked before every call.
    """

    def __init__(self, model: Model, cancel: Cancel) -> None:
        self._model = model
        self._cancel = cancel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    @property
    def base(self) -> Model:
        """The model without its LoRAs, whose calls ask as well."""
        base = self._model.base
        return cast("Model", self if base is self._model else Interruptible(base, self._cancel))

    def encode(self, frames: Tensor) -> Tensor:
        """Encode one batch of frames."""
        self._ask()
        return self._model.encode(frames)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode one batch of latents."""
        self._ask()
        return self._model.decode(latents)

    def predict(self, latents: Tensor, level: Level, conditioning: Conditioning, **options: Any) -> Tensor:
        """Call the network."""
        self._ask()
        return self._model.predict(latents, level, conditioning, **options)

    def capture(self, latents: Tensor, level: Level, conditioning: Conditioning, wanted: Collection[str]) -> Injection:
        """Call the network for features."""
        self._ask()
        return self._model.capture(latents, level, conditioning, wanted)

    def features(self, latents: Tensor, level: Level, conditioning: Conditioning) -> Tensor:
        """Call the network for matching features."""
        self._ask()
        return self._model.features(latents, level, conditioning)

    def text_change(self, latents: Tensor, level: Level, conditioning: Conditioning, other: Conditioning) -> Tensor:
        """Call the network under two texts."""
        self._ask()
        return self._model.text_change(latents, level, conditioning, other)

    def load_control(self, path: str, detector: str = "canny", beside: Collection[str] = ()) -> Control:
        """The ControlNet, whose calls ask as well."""
        control = self._model.load_control(path, detector, beside)

        def asked(*arguments: Any) -> Any:
            self._ask()
            return control(*arguments)

        return asked

    def _ask(self) -> None:
        raise_if_cancelled(self._cancel)


def interruptible(model: Model, cancel: Cancel | None) -> Model:
    """The model itself where nothing can stop it, or an `Interruptible`."""
    return model if cancel is None else cast("Model", Interruptible(model, cancel))
