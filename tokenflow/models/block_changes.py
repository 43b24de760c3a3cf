"""Reading and changing the image tokens behind blocks of a joint transformer."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tokenflow.models.capture import Capture
from tokenflow.models.injection import repeat_branches
from tokenflow.models.patching import Forward

Change = Callable[[Tensor, Tensor], Tensor]
"""(image tokens m n d that enter a block, those that leave it) -> those to go on with."""


def changed_forward(block: Any, text_tokens: int, changes: list[Change]) -> Forward:
    """A block's `forward`, followed by changes of its image tokens.

    Args:
        block: gives text and image apart, or [text ‖ image] if that is what it takes.
        text_tokens: how many of these stand for text.
        changes: made in this order.
    """
    own = block.forward

    def forward(*arguments: Any, hidden_states: Tensor, **named: Any) -> Any:
        output = own(*arguments, hidden_states=hidden_states, **named)
        apart = isinstance(output, tuple)
        text, image = output if apart else (output[:, :text_tokens], output[:, text_tokens:])
        entering = hidden_states if apart else hidden_states[:, text_tokens:]
        for change in changes:
            image = change(entering, image)
        return (text, image) if apart else torch.cat([text, image], 1)

    return forward


def as_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """The first tokens (m n d) as a map m d h w of a grid."""
    rows, columns = grid
    return tokens[:, : rows * columns].transpose(1, 2).unflatten(2, grid)


def as_tokens(features: Tensor, like: Tensor) -> Tensor:
    """Features f d h w as tokens of every branch, (b f) (h w) d."""
    return repeat_branches(features.flatten(2).transpose(1, 2).to(like), like)


def replaced(features: Tensor) -> Change:
    """The image tokens are these features (f d h w)."""

    def change(_: Tensor, leaving: Tensor) -> Tensor:
        tokens = as_tokens(features, leaving)
        return torch.cat([tokens, leaving[:, tokens.shape[1] :]], 1)

    return change


def added(features: Tensor) -> Change:
    """What the block adds to the image tokens are these features (f d h w)."""

    def change(entering: Tensor, leaving: Tensor) -> Tensor:
        tokens = as_tokens(features, leaving)
        count = tokens.shape[1]
        return torch.cat([entering[:, :count] + tokens, leaving[:, count:]], 1)

    return change


def kept_output(capture: Capture, point: str, grid: tuple[int, int]) -> Change:
    """The image tokens are captured."""

    def change(_: Tensor, leaving: Tensor) -> Tensor:
        capture.keep(point, as_map(leaving, grid))
        return leaving

    return change


class KeptResiduals:
    """Captures what several blocks add to the image tokens, channel by channel as one map f (blocks d) h w.

    Args:
        capture: takes it.
        point: its name.
        grid: of the image tokens.
        count: how many blocks.
    """

    def __init__(self, capture: Capture, point: str, grid: tuple[int, int], count: int) -> None:
        self._capture = capture
        self._point = point
        self._grid = grid
        self._count = count
        self._residuals: list[Tensor] = []

    def __call__(self, entering: Tensor, leaving: Tensor) -> Tensor:
        """A `Change` that changes nothing."""
        self._residuals.append(as_map(leaving - entering, self._grid))
        if len(self._residuals) == self._count:
            self._capture.keep(self._point, torch.cat(self._residuals, 1))
        return leaving
