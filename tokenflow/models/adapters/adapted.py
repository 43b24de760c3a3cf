"""A model with LoRAs: they act on edits, and are switched off for whatever reads or inverts the source."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from threading import RLock
from typing import Any, cast

from torch import Tensor

from tokenflow.config import LoRA
from tokenflow.diffusion.conditioning import Conditioning
from tokenflow.diffusion.levels import Level
from tokenflow.models.adapters.loras import acting_layers
from tokenflow.models.identity import DIGITS
from tokenflow.models.injection import Injection
from tokenflow.models.model import Model


class Switch:
    """Switches the LoRAs of a pipeline on and off, those that are off already excepted; calls take turns.

    Args:
        pipeline: a diffusers pipeline with LoRAs.
    """

    def __init__(self, pipeline: Any) -> None:
        self._layers = acting_layers(pipeline)
        self._turn = RLock()
        self._is_on = True

    @contextmanager
    def set(self, on: bool) -> Iterator[None]:
        """LoRAs are on or off in this context, and no other call changes that."""
        with self._turn:
            if on != self._is_on:
                for layer in self._layers:
                    layer.enable_adapters(on)
                self._is_on = on
            yield


class Adapted:
    """A model whose LoRAs are on; its `base` is the same with them off.

    Args:
        model: the model, with LoRA layers in its networks; see `Model` for the methods.
        switch: of these layers.
        adapters: tells one set of LoRAs and scales from another.
        loras: their settings.
        on: whether they act.
    """

    def __init__(
        self, model: Model, switch: Switch, adapters: str, loras: Sequence[LoRA] = (), *, on: bool = True
    ) -> None:
        self.loras = tuple(loras)
        self._model = model
        self._switch = switch
        self._adapters = adapters
        self._on = on

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    @cached_property
    def base(self) -> Model:
        """The model with its LoRAs off."""
        return cast("Model", Adapted(self._model, self._switch, "", on=False)) if self._on else cast("Model", self)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hex digits that change with the model's own fingerprint and, where they act, with the LoRAs."""
        if not self._on:
            return self._model.fingerprint
        return hashlib.sha256(f"{self._model.fingerprint} {self._adapters}".encode()).hexdigest()[:DIGITS]

    def condition(self, prompt: str, *, size: tuple[int, int] | None = None, negative: bool = False) -> Conditioning:
        """Encode a prompt."""
        with self._switch.set(self._on):
            return self._model.condition(prompt, size=size, negative=negative)

    def predict(self, latents: Tensor, level: Level, conditioning: Conditioning, **options: Any) -> Tensor:
        """Call the network."""
        with self._switch.set(self._on):
            return self._model.predict(latents, level, conditioning, **options)

    def capture(self, latents: Tensor, level: Level, conditioning: Conditioning, wanted: Collection[str]) -> Injection:
        """Call the network for features."""
        with self._switch.set(self._on):
            return self._model.capture(latents, level, conditioning, wanted)

    def features(self, latents: Tensor, level: Level, conditioning: Conditioning) -> Tensor:
        """Call the network for matching features."""
        with self._switch.set(self._on):
            return self._model.features(latents, level, conditioning)

    def text_change(self, latents: Tensor, level: Level, conditioning: Conditioning, other: Conditioning) -> Tensor:
        """Call the network under two texts."""
        with self._switch.set(self._on):
            return self._model.text_change(latents, level, conditioning, other)
