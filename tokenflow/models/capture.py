"""Collects features and queries and keys in one network call, and leaves it as soon as everything is there."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from torch import Tensor, nn

from tokenflow.models.attention import AttentionCall, AttentionOverride, attend_within_frames
from tokenflow.models.injection import ATTENTION, Injection, QueriesKeys
from tokenflow.models.patching import Hook

Read = Callable[[Any, Tensor], Tensor]
"""(a module's inputs, its output) -> features f d h w."""


class CaptureDone(Exception):  # noqa: N818 - a signal, not an error
    """Raised inside a network to leave it once everything wanted is captured."""


def check_points(wanted: Collection[str], points: Collection[str]) -> None:
    """Check names of injection points.

    Raises:
        ValueError: one is not among `points`.
    """
    if unknown := set(wanted) - set(points):
        raise ValueError(f"expected injection points among {', '.join(points)}; got {', '.join(unknown)}")


class Capture:
    """What is captured in one network call.

    Args:
        wanted: names of injection points.
        attention: the sites whose queries and keys are captured, in the order in which the network runs through them.
    """

    def __init__(self, wanted: Collection[str], attention: Sequence[str]) -> None:
        self._missing = set(wanted)
        self._attention = attention
        self._features: dict[str, Tensor] = {}
        self._queries_keys: dict[str, QueriesKeys] = {}

    @property
    def override(self) -> AttentionOverride | None:
        """Ordinary self-attention that captures queries and keys; None if they are not wanted."""
        return self._keep_queries_keys if ATTENTION in self._missing else None

    @property
    def injection(self) -> Injection:
        """What was captured."""
        return Injection(self._queries_keys, self._features)

    def hook(self, point: str, read: Read = lambda _, output: output) -> Hook:
        """A forward hook that captures the features of a point."""

        def keep(_module: nn.Module, inputs: Any, output: Tensor) -> None:
            self.keep(point, read(inputs, output))

        return keep

    def keep(self, point: str, features: Tensor) -> None:
        """Take the features (f d h w) of a point, and leave the network if nothing else is missing."""
        self._features[point] = features
        self._leave_when_complete(point)

    def _keep_queries_keys(self, call: AttentionCall) -> Tensor:
        queries, keys = call.queries_keys()
        if call.site.name in self._attention:
            self._queries_keys[call.site.name] = queries[:, call.text_tokens :], keys[:, call.text_tokens :]
        if call.site.name == self._attention[-1]:
            self._leave_when_complete(ATTENTION)
        return attend_within_frames(call, queries, keys, call.values())

    def _leave_when_complete(self, point: str) -> None:
        self._missing.discard(point)
        if not self._missing:
            raise CaptureDone
