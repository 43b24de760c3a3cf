"""A prompt as a network takes it; several are stacked as branches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """A prompt, or several stacked as branches, in the form a network takes it.

    Attributes:
        tokens: b n c, the text encoder's states.
        added: b …, whatever else the family conditions on, by name: pooled states, image sizes, embedded guidance.
        references: what the family computed of reference images, the same for all branches; None for none.
        padding: 1 n' c, what fills up a shorter prompt that is stacked with others; None if a longer one brings it.
    """

    tokens: Tensor
    added: Mapping[str, Tensor] = field(default_factory=dict)
    references: Any = None
    padding: Tensor | None = None

    @property
    def branches(self) -> int:
        """How many prompts are stacked."""
        return self.tokens.shape[0]

    def from_branch(self, first: int) -> "Conditioning":
        """The branches from this one on."""
        added = {name: each[first:] for name, each in self.added.items()}
        return replace(self, tokens=self.tokens[first:], added=added)

    def adding(self, more: Mapping[str, Tensor]) -> "Conditioning":
        """The same with more (one branch) that every branch adds."""
        repeated = {name: each.repeat(self.branches, *[1] * (each.ndim - 1)) for name, each in more.items()}
        return replace(self, added={**self.added, **repeated})

    def for_frames(self, frames: int) -> "Conditioning":
        """Each branch repeated for every frame: (b f) n c."""
        return Conditioning(
            self.tokens.repeat_interleave(frames, dim=0),
            {name: value.repeat_interleave(frames, dim=0) for name, value in self.added.items()},
            self.references,
        )


def stack(conditionings: Sequence[Conditioning]) -> Conditioning:
    """Several prompts as the branches of one conditioning, in the order given; shorter ones are filled up.

    Raises:
        ValueError: they do not have the same references.
    """
    references = conditionings[0].references
    if any(each.references is not references for each in conditionings):
        raise ValueError("expected prompts with the same references, since branches share them; got different ones")
    longest = max(conditionings, key=lambda each: each.tokens.shape[1])
    return Conditioning(
        torch.cat([_filled_up(each, longest) for each in conditionings]),
        {name: torch.cat([each.added[name] for each in conditionings]) for name in conditionings[0].added},
        references,
        longest.padding,
    )


def _filled_up(conditioning: Conditioning, longest: Conditioning) -> Tensor:
    """A prompt's tokens at the length of the longest: its own padding, or else the longest's, is repeated."""
    missing = longest.tokens.shape[1] - conditioning.tokens.shape[1]
    padding = longest.padding if conditioning.padding is None else conditioning.padding
    if not missing or padding is None:
        return conditioning.tokens
    repeated = padding.repeat(conditioning.branches, -(-missing // padding.shape[1]), 1)[:, :missing]  # b missing c
    return torch.cat([conditioning.tokens, repeated], dim=1)
