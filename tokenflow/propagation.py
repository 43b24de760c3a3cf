"""From latents to guided noise, frame by frame or with keyframes' features carried to every frame.

Knows how frames are grouped into network calls and where the output of self-attention comes from (TokenFlow: Geyer et
al., ICLR 2024, sections 4.1 and 4.2). Knows no mode, no model and no way of finding correspondences by name.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tokenflow.attention import Injection, SelfAttention, Site, Strategy, each_frame_to_itself, project
from tokenflow.backbones.base import Backbone, Conditioning, stack
from tokenflow.correspondence.base import Correspondence
from tokenflow.frames import batches
from tokenflow.keyframes import Window, draw_keyframes, neighbours, windows
from tokenflow.modes.base import Call, Mode
from tokenflow.schedule import Step

LOST_BELOW = 0.2
"""Where no keyframe's confidence reaches this, a token counts as occluded in all and attends to its own frame."""


class Guidance:
    """Classifier-free guidance (Ho & Salimans, 2022): ε = ε_uncond + scale · (ε_cond − ε_uncond).

    Written as ε_cond + (scale − 1) · δ with δ = ε_cond − ε_uncond, since δ can be carried from frame to frame.

    Args:
        conditional: the edit's prompt, one branch.
        unconditional: the negative prompt, one branch.
        scale: at least 1; at 1 the negative prompt has no effect and is not computed.
    """

    def __init__(self, conditional: Conditioning, unconditional: Conditioning, scale: float) -> None:
        self.conditional = conditional
        self.branches = conditional if scale == 1 else stack([unconditional, conditional])
        self._scale = scale

    def split(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The conditional noise and δ (f c h w each) of all branches' noise (b f c h w)."""
        return noise[-1], noise[-1] - noise[0]

    def combine(self, conditional: Tensor, difference: Tensor) -> Tensor:
        """The guided noise of the conditional noise and δ (f c h w all)."""
        return conditional + (self._scale - 1) * difference


@dataclass(frozen=True)
class Editing:
    """What every network call of an edit shares: the model, the mode that adds to calls, and the prompts."""

    backbone: Backbone
    mode: Mode
    guidance: Guidance

    def predict(
        self,
        frames: Sequence[int],
        latents: Tensor,
        step: Step,
        conditioning: Conditioning,
        strategy: Callable[[Injection], Strategy],
        *,
        computes_attention: bool = True,
    ) -> Tensor:
        """The noise (b f c h w) in some frames' latents (f c h w), with what the mode injects."""
        injection = self.mode.inject(Call(frames, latents, step, conditioning, computes_attention))
        return self.backbone.predict(
            latents, step.timestep, conditioning, strategy=strategy(injection), injection=injection
        )


class PerFrame:
    """Every frame for itself: the baseline that flickers.

    Args:
        editing: the model, mode and prompts.
        batch_size: frames a network call.
    """

    def __init__(self, editing: Editing, batch_size: int) -> None:
        self._editing = editing
        self._batch_size = batch_size

    def __call__(self, latents: Tensor, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        """Frames in batches, and the guided noise (g c h w) in their latents (f c h w are all frames')."""
        guidance = self._editing.guidance
        for frames in batches(range(len(latents)), self._batch_size):
            branches = self._editing.predict(frames, latents[frames], step, guidance.branches, each_frame_to_itself)
            yield frames, guidance.combine(*guidance.split(branches))


class TokenFlow:
    """Keyframes computed together; every other frame's self-attention output carried from the keyframes around it.

    A keyframe's noise comes from the keyframe pass itself: with its own tokens back, a frame pass would give the same.

    Args:
        editing: the model, mode and prompts.
        batch_size: frames a network call; never changes the result.
        correspondence: where tokens lie in other frames.
        interval: frames to a keyframe.
        window: how many keyframes attend to each other at most.
        seed: of the draw of keyframes.
        carry_guidance: carry δ of the guidance from the keyframes too, instead of computing it for every frame.
    """

    def __init__(
        self,
        editing: Editing,
        batch_size: int,
        *,
        correspondence: Correspondence,
        interval: int,
        window: int,
        seed: int,
        carry_guidance: bool,
    ) -> None:
        self._editing = editing
        self._batch_size = batch_size
        self._correspondence = correspondence
        self._interval = interval
        self._window = window
        self._seed = seed
        self._carry_guidance = carry_guidance
        guidance = editing.guidance
        self._frame_conditioning = guidance.conditional if carry_guidance else guidance.branches

    def __call__(self, latents: Tensor, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        """Keyframes and other frames, window by window, and the guided noise (g c h w) in their latents.

        Latents (f c h w) are all frames'. What is kept of keyframes is one window's, however long the clip is.
        """
        keyframes = draw_keyframes(len(latents), self._interval, self._seed, step.index)
        bank: _Bank | None = None
        for window in windows(keyframes, len(latents), self._window):
            own, guided = self._keyframe_pass(latents, step, window)
            yield list(window.keyframes), guided
            bank = own if bank is None else bank.last().joined(own)
            for frames in batches(window.between, self._batch_size):
                yield frames, self._frame_pass(frames, latents[frames], step, bank)

    def _keyframe_pass(self, latents: Tensor, step: Step, window: Window) -> tuple["_Bank", Tensor]:
        """A window's keyframes with extended attention: what other frames take from them, and their guided noise."""
        guidance = self._editing.guidance
        together = sorted({*window.keyframes, *window.context})
        own = [together.index(keyframe) for keyframe in window.keyframes]
        kept: dict[str, Tensor] = {}

        def strategy(injection: Injection) -> Strategy:
            return _extended_attention(injection, len(together), kept)

        branches = self._editing.predict(together, latents[together], step, guidance.branches, strategy)
        conditional, difference = guidance.split(branches[:, own])
        read = self._frame_conditioning.branches
        tokens = {name: output[-read:, own] for name, output in kept.items()}
        return _Bank(list(window.keyframes), tokens, difference), guidance.combine(conditional, difference)

    def _frame_pass(self, frames: list[int], latents: Tensor, step: Step, bank: "_Bank") -> Tensor:
        """The guided noise of frames that are no keyframes, with self-attention's output from the keyframes."""
        guidance = self._editing.guidance
        size = latents.shape[-2], latents.shape[-1]
        # Every field before the network is called, since finding one may call the network itself.
        grids = {size, *(site.grid(*size) for site in self._editing.backbone.sites)}
        transport = _Transport(frames, bank.keyframes, self._correspondence, grids, bank.difference.device)
        strategy = _carried_attention(bank, transport, size)
        branches = self._editing.predict(
            frames, latents, step, self._frame_conditioning, lambda _: strategy, computes_attention=False
        )
        conditional, difference = guidance.split(branches)
        if self._carry_guidance:
            difference = transport.carry(bank.difference[None], size)[0]
        return guidance.combine(conditional, difference)


@dataclass(frozen=True)
class _Bank:
    """What frames take from keyframes.

    Attributes:
        keyframes: whose it is, in order.
        tokens: by site, the attention output b k n c of the branches that the frame pass computes.
        difference: the guidance's δ, k c h w.
    """

    keyframes: list[int]
    tokens: dict[str, Tensor]
    difference: Tensor

    def last(self) -> "_Bank":
        """Of the last keyframe only: what the next window's frames still need."""
        tokens = {name: output[:, -1:] for name, output in self.tokens.items()}
        return _Bank(self.keyframes[-1:], tokens, self.difference[-1:])

    def joined(self, other: "_Bank") -> "_Bank":
        """Of these keyframes and the other's behind them."""
        tokens = {name: torch.cat([output, other.tokens[name]], dim=1) for name, output in self.tokens.items()}
        difference = torch.cat([self.difference, other.difference])
        return _Bank(self.keyframes + other.keyframes, tokens, difference)


@dataclass(frozen=True)
class _Field:
    """Where some frames' tokens come from, on one token grid; two sides, the keyframes before and after.

    Attributes:
        keyframes: 2 f, places in the bank.
        positions: 2 f h w 2, in `grid_sample`'s units.
        weights: 2 f h w, adding up to 1.
        lost: f n, tokens that no side knows.
    """

    keyframes: Tensor
    positions: Tensor
    weights: Tensor
    lost: Tensor


class _Transport:
    """Carries what keyframes have, at tokens' or latents' resolution, to corresponding places in some frames."""

    def __init__(
        self,
        frames: list[int],
        keyframes: list[int],
        correspondence: Correspondence,
        grids: set[tuple[int, int]],
        device: torch.device,
    ) -> None:
        self._sides = [neighbours(frame, keyframes) for frame in frames]
        self._frames = frames
        self._keyframes = keyframes
        self._correspondence = correspondence
        self._device = device
        self.fields = {grid: self._field(*grid) for grid in grids}

    def carry(self, values: Tensor, grid: tuple[int, int]) -> Tensor:
        """b k c h w of the keyframes, blended at corresponding places: b f c h w of the frames."""
        branches = values.shape[0]
        per_keyframe = values.transpose(0, 1).flatten(1, 2)
        field = self.fields[grid]
        carried = sum(
            weights[:, None].to(values.dtype)
            * F.grid_sample(
                per_keyframe[keyframes],
                positions.to(values.dtype),
                padding_mode="border",
                align_corners=False,
            )
            for keyframes, positions, weights in zip(field.keyframes, field.positions, field.weights, strict=True)
        )
        return carried.unflatten(1, (branches, -1)).transpose(0, 1)

    def _field(self, height: int, width: int) -> _Field:
        positions, confidences = [], []
        for side in (0, 1):
            maps = [
                self._correspondence.maps(frame, self._keyframes[sides[side]], height, width)
                for frame, sides in self._pairs()
            ]
            positions.append(torch.stack([position for position, _ in maps]))
            confidences.append(torch.stack([confidence for _, confidence in maps]))
        confidence = torch.stack(confidences)
        weights = confidence * self._closeness()[..., None]
        total = weights.sum(0, keepdim=True)
        lost = confidence.amax(0) < LOST_BELOW
        weights = torch.where(lost, self._closeness()[..., None].expand_as(weights), weights / total.clamp_min(1e-6))
        normalised = (2 * torch.stack(positions) + 1) / torch.tensor([width, height]) - 1
        return _Field(
            torch.tensor(self._sides, device=self._device).T,
            normalised.unflatten(2, (height, width)).to(self._device),
            weights.unflatten(2, (height, width)).to(self._device),
            lost.to(self._device),
        )

    def _closeness(self) -> Tensor:
        """2 f: how close each frame is to either keyframe, by true distance; the two add up to 1."""
        before, after = (
            torch.tensor([float(abs(frame - self._keyframes[sides[side]])) for frame, sides in self._pairs()])
            for side in (0, 1)
        )
        span = before + after
        share = torch.where(span > 0, after / span.clamp_min(1), 1.0)
        return torch.stack([share, 1 - share])

    def _pairs(self) -> Iterator[tuple[int, tuple[int, int]]]:
        return zip(self._frames, self._sides, strict=True)


def _extended_attention(injection: Injection, frames: int, kept: dict[str, Tensor]) -> Strategy:
    """Every frame's queries attend to the keys and values of all frames (section 4.1); outputs are kept, b k n c."""

    def attend(site: Site, layer: SelfAttention, tokens: Tensor) -> Tensor:
        parts = project(site, layer, tokens, injection)
        # All frames as one sequence: the same keys for every query, without repeating them.
        output = layer.attend(*(part.unflatten(0, (-1, frames)).flatten(1, 2) for part in parts))
        kept[site.name] = output.unflatten(1, (frames, -1))
        return kept[site.name].flatten(0, 1)

    return attend


def _carried_attention(bank: _Bank, transport: _Transport, size: tuple[int, int]) -> Strategy:
    """The keyframes' attention output at corresponding places (section 4.2), and a frame's own where there is none."""

    def attend(site: Site, layer: SelfAttention, tokens: Tensor) -> Tensor:
        grid = site.grid(*size)
        values = bank.tokens[site.name].transpose(2, 3).unflatten(3, grid)
        carried = transport.carry(values, grid).flatten(3).transpose(2, 3).flatten(0, 1)
        return _attend_where_lost(layer, tokens, carried, transport.fields[grid].lost)

    return attend


def _attend_where_lost(layer: SelfAttention, tokens: Tensor, carried: Tensor, lost: Tensor) -> Tensor:
    """Carried output ((b f) n c), replaced by attention to the own frame at the lost tokens (f n)."""
    frames = len(lost)
    for frame in lost.any(1).nonzero().flatten().tolist():
        places = lost[frame].nonzero().flatten()
        own = tokens[frame::frames]
        carried[frame::frames, places] = layer.attend(layer.queries(own[:, places]), layer.keys(own), layer.values(own))
    return carried
