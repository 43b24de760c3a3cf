"""TokenFlow: keyframes edited together, and their features carried to every frame (Geyer et al., ICLR 2024, section 4).

Knows how frames are grouped into network calls, and where the output of self-attention comes from. Knows no mode, no
model and no way of finding correspondences by name.
"""

from collections.abc import Iterator
from typing import get_args

import torch
from torch import Tensor

from tokenflow.correspondence.base import Correspondence
from tokenflow.diffusion.batches import batches
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.schedules import Step
from tokenflow.models.attention import AttentionOverride, Features, Injection, SelfAttention, Site
from tokenflow.propagation.denoiser import EditDenoiser
from tokenflow.propagation.extended_attention import Levels, extended_attention, extended_sites
from tokenflow.propagation.feature_bank import FeatureBank
from tokenflow.propagation.keyframes import Window, draw_keyframes, windows
from tokenflow.propagation.warp import OccludedTokens, Warp

DIFFERENCE = "guidance"
"""What the δ of the guidance is kept under, among sites' names and the places of injected features."""

EDIT = "edit"
"""What the whole edit, the guided noise less the source's, is kept under in steps that carry it."""


class TokenFlow:
    """Keyframes computed together; every other frame's self-attention output carried from the keyframes around it.

    A keyframe's noise comes from the keyframe pass itself: with its own tokens back, a frame pass would give the same.
    In the first steps, which settle what is where, the other frames' noise is carried as well: it is that which leads
    along their own source, and is known from the inversion, with what the edit adds to it on the keyframes. No network
    is called for them. The steps behind let the network mend what motion does not tell, such as what comes into view.

    Args:
        editing: the model, mode and prompts.
        batch_size: frames a network call, but keyframes', of which a whole window goes in; never changes the result.
        correspondence: where tokens lie in other frames.
        interval: frames to a keyframe.
        window: how many keyframes attend to each other at most.
        extended: at which levels of the network they do.
        seed: of the draw of keyframes.
        carry_guidance: carry δ of the guidance from the keyframes too, instead of computing it for every frame.
        carried_until: fraction of the steps, in [0, 1], in which the whole edit is carried.
    """

    def __init__(
        self,
        editing: EditDenoiser,
        batch_size: int,
        *,
        correspondence: Correspondence,
        interval: int,
        window: int,
        extended: Levels,
        seed: int,
        carry_guidance: bool,
        carried_until: float,
    ) -> None:
        self._denoiser = editing
        self._batch_size = batch_size
        self._correspondence = correspondence
        self._interval = interval
        self._window = window
        self._extended = extended_sites(extended, editing.model.sites)
        self._seed = seed
        self._carry_guidance = carry_guidance
        self._carried_until = carried_until
        guidance = editing.guidance
        self._frame_conditioning = guidance.conditional if carry_guidance else guidance.branches

    def __call__(self, latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        """Keyframes and other frames, window by window, and the guided noise (g c h w) in their latents.

        Latents (f c h w) are all frames'. What is kept of keyframes is one window's, however long the clip is, and each
        keyframe is computed once.
        """
        keyframes = draw_keyframes(len(latents), self._interval, self._seed, step.index)
        bank, attended = FeatureBank((), {}), FeatureBank((), {})
        frame_pass = self._carry_edit if self._is_carried(step) else self._frame_pass
        for window in windows(keyframes, len(latents), self._window):
            own, own_attended, guided = self._keyframe_pass(latents, step, window, attended.select(window.context))
            yield list(window.keyframes), guided
            bank = bank.merge(own)
            attended = attended.merge(own_attended).select(window.kept)
            for frames in batches(window.between, self._batch_size):
                yield frames, frame_pass(frames, latents[frames], step, bank)
            bank = bank.select(window.kept)

    def _keyframe_pass(
        self, latents: Latents, step: Step, window: Window, context: FeatureBank
    ) -> tuple[FeatureBank, FeatureBank, Tensor]:
        """A window's keyframes with extended attention, to each other and to the context.

        Returns:
            What frames take from them: by site, the attention output b k n c of the branches that the frame pass
            computes; by place, the features that the mode injects, 1 k d h w; and the guidance's δ, 1 k c h w.
            Or, where the whole edit is carried, that alone, 1 k c h w.
            What later keyframes attend to, of those that are kept: by extended site, keys and values, b k n c.
            The guided noise, k c h w.
        """
        guidance = self._denoiser.guidance
        keyframes = list(window.keyframes)
        taken: dict[str, Tensor] = {}
        outputs: dict[str, Tensor] = {}
        keys_values: dict[str, Tensor] = {}

        def strategy(injection: Injection) -> AttentionOverride:
            taken.update((place, features[None]) for place, features in injection.features.items())
            return extended_attention(injection, len(keyframes), context, self._extended, outputs, keys_values)

        branches = self._denoiser.predict(keyframes, latents[keyframes], step, guidance.branches, strategy)
        conditional, difference = guidance.split(branches)
        guided = guidance.combine(conditional, difference)
        if self._is_carried(step):
            taken = {EDIT: (guided - self._denoiser.source_noise(keyframes, step).to(guided))[None]}
        else:
            read = self._frame_conditioning.branches
            taken |= {name: output[-read:] for name, output in outputs.items()} | {DIFFERENCE: difference[None]}
        return (
            FeatureBank(window.keyframes, taken),
            FeatureBank(window.keyframes, keys_values).select(window.kept),
            guided,
        )

    def _is_carried(self, step: Step) -> bool:
        """Whether frames take the whole edit from the keyframes at a step."""
        return step.is_before(self._carried_until)

    def _carry_edit(self, frames: list[int], latents: Tensor, step: Step, bank: FeatureBank) -> Tensor:
        """The noise of frames between keyframes: their source's, and the keyframes' edit at corresponding places."""
        edit = bank.tensors[EDIT][0]
        size = latents.shape[-2], latents.shape[-1]
        warp = Warp(frames, bank.keyframes, self._correspondence, {size}, edit.device)
        return self._denoiser.source_noise(frames, step).to(edit) + warp.warp_maps(edit)

    def _frame_pass(self, frames: list[int], latents: Tensor, step: Step, bank: FeatureBank) -> Tensor:
        """The guided noise of frames that are no keyframes, with features from the keyframes."""
        guidance = self._denoiser.guidance
        size = latents.shape[-2], latents.shape[-1]
        features = {place: bank.tensors[place] for place in get_args(Features) if place in bank.tensors}
        # Every field before the network is called, since finding one may call the network itself.
        grids = {size, *(site.grid(*size) for site in self._denoiser.model.sites)}
        grids |= {(each.shape[-2], each.shape[-1]) for each in features.values()}
        warp = Warp(frames, bank.keyframes, self._correspondence, grids, bank.tensors[DIFFERENCE].device)
        branches = self._denoiser.predict_carried(
            frames,
            latents,
            step,
            self._frame_conditioning,
            _carried_attention(bank, warp, size),
            {place: warp.warp_maps(each[0]) for place, each in features.items()},
        )
        conditional, difference = guidance.split(branches)
        if self._carry_guidance:
            difference = warp.warp_maps(bank.tensors[DIFFERENCE][0])
        return guidance.combine(conditional, difference)


def _carried_attention(bank: FeatureBank, warp: Warp, size: tuple[int, int]) -> AttentionOverride:
    """The keyframes' attention output at corresponding places (section 4.2), and a frame's own where there is none."""

    def attend(site: Site, layer: SelfAttention, tokens: Tensor) -> Tensor:
        grid = site.grid(*size)
        carried = warp.warp_tokens(bank.tensors[site.name], grid)
        lost = warp.fields[grid].lost
        if lost is not None:
            own = tokens.unflatten(0, carried.shape[:2])
            frames = lost.frames[:, None].expand_as(lost.tokens)[lost.real]
            carried[:, frames, lost.tokens[lost.real]] = _attend_where_lost(layer, own, lost)
        return carried.flatten(0, 1)

    return attend


def _attend_where_lost(layer: SelfAttention, tokens: Tensor, lost: OccludedTokens) -> Tensor:
    """What attention to their own frame gives the lost ones of tokens b f n c: b l c, frame by frame."""
    own = tokens[:, lost.frames].flatten(0, 1)
    frames = torch.arange(len(own), device=own.device)[:, None]
    asking = own[frames, lost.tokens.repeat(len(tokens), 1)]
    attended = layer.attend(layer.queries(asking), layer.keys(own), layer.values(own))
    return attended.unflatten(0, (len(tokens), -1))[:, lost.real]
