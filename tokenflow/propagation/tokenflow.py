"""TokenFlow (Geyer et al., ICLR 2024, section 4): keyframes edited together, features propagated to all frames."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tokenflow.correspondence.base import Correspondence
from tokenflow.diffusion.batches import batches
from tokenflow.diffusion.latents import Latents
from tokenflow.diffusion.schedules import Step
from tokenflow.models.attention import AttentionCall, AttentionOverride, attend_within_frames, per_frame_attention
from tokenflow.models.injection import Injection
from tokenflow.propagation.denoiser import EditDenoiser
from tokenflow.propagation.extended_attention import extended_attention
from tokenflow.propagation.feature_bank import EMPTY_BANK, FeatureBank
from tokenflow.propagation.kept_features import KeptFeatures, KeptMemories
from tokenflow.propagation.keyframes import Window, draw_keyframes, windows
from tokenflow.propagation.references import ReferenceFeatures
from tokenflow.propagation.warp import OccludedTokens, Warp, WarpOptions

DIFFERENCE = "guidance"
"""Name of the guidance's δ in the feature bank, among the names of sites and injection points."""

EDIT = "edit"
"""Name of the whole edit, the guided prediction minus the source's, in steps that propagate it."""

DrawKeyframes = Callable[[int, int], list[int]]
"""(number of frames of a shot, index of the step) -> which of them are keyframes, in order."""

ExtendedAttention = Callable[..., AttentionOverride]
"""The signature of `extended_attention`."""


@dataclass(frozen=True)
class Propagation:
    """What is propagated, and how.

    Attributes:
        shots: the frames of each shot of the clip. Nothing is carried from one to another.
        draw_keyframes: which frames of a shot are keyframes at a step.
        window: how many keyframes attend to each other at most.
        extended: names of the sites where they do.
        is_edit_propagated: whether frames take the whole edit from the keyframes at a step, without a network call.
        propagate_guidance: propagate δ of the guidance from the keyframes, too, instead of computing it for every
        frame.
        warp: how tokens are sampled and blended.
        extended_attention: what keyframes do at extended sites.
        kept: at which sites attention features are propagated; at others every frame attends to itself. None for all.
        kept_on: where the keyframes' features rest until they are propagated; None for where they were computed.
        always: frames that are keyframes at every step.
    """

    shots: tuple[range, ...]
    draw_keyframes: DrawKeyframes
    window: int
    extended: frozenset[str]
    is_edit_propagated: Callable[[Step], bool]
    propagate_guidance: bool
    warp: WarpOptions = field(default_factory=WarpOptions)
    extended_attention: ExtendedAttention = extended_attention
    kept: frozenset[str] | None = None
    kept_on: torch.device | None = None
    always: tuple[int, ...] = ()

    def keyframes(self, shot: range, step: int) -> list[int]:
        """The keyframes of a shot at a step, in order."""
        drawn = (shot[place] for place in self.draw_keyframes(len(shot), step))
        return sorted({*drawn, *(frame for frame in self.always if frame in shot)})


def keyframe_per_interval(interval: int, seed: int) -> DrawKeyframes:
    """One random keyframe out of each interval of frames, different ones at each step."""
    return lambda frame_count, step: draw_keyframes(frame_count, interval, seed, step)


class TokenFlow:
    """Keyframes computed together; every other frame's attention features propagated from the keyframes around it.

    A keyframe's prediction comes from the keyframe pass itself: a frame pass with its own tokens would give the same.
    In the first steps, which settle the layout, the other frames' predictions are propagated as well: each follows the
    prediction that leads along its own source, known from the inversion, plus what the edit adds to that on the
    keyframes. These frames need no network call. In the later steps the network fills in what motion cannot tell, such
    as what comes into view.

    Args:
        denoiser: the model, mode and prompts.
        batch_size: frames per network call; a window of keyframes always goes in whole.
        correspondence: where tokens lie in other frames.
        options: what is propagated, and how.
    """

    def __init__(
        self, denoiser: EditDenoiser, batch_size: int, correspondence: Correspondence, options: Propagation
    ) -> None:
        self._denoiser = denoiser
        self._batch_size = batch_size
        self._correspondence = correspondence
        self._options = options
        guidance = denoiser.guidance
        self._frame_conditioning = guidance.conditional if options.propagate_guidance else guidance.branches

    def __call__(self, latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        """Keyframes and other frames, window by window, and the guided prediction (g c h w) for them.

        Latents (f c h w) are all frames'.
        """
        for shot in self._options.shots:
            yield from self._predict_shot(shot, latents, step)

    def _predict_shot(self, shot: range, latents: Latents, step: Step) -> Iterator[tuple[list[int], Tensor]]:
        """The same for the frames of one shot.

        The feature bank holds the keyframes of one window, however long the shot is, and each keyframe is computed
        once.
        """
        keyframes = self._options.keyframes(shot, step.index)
        bank, attended = EMPTY_BANK, EMPTY_BANK
        frame_pass = self._propagate_edit if self._options.is_edit_propagated(step) else self._frame_pass
        for window in windows(keyframes, shot, self._options.window):
            own, memories, guided = self._keyframe_pass(latents, step, window, attended.select(window.context))
            yield list(window.keyframes), guided
            bank = bank.merge(own)
            attended = attended.merge(memories).select(window.kept)
            for indices in batches(window.between, self._batch_size):
                yield indices, frame_pass(indices, latents[indices], step, bank)
            bank = bank.select(window.kept)

    def _keyframe_pass(
        self, latents: Latents, step: Step, window: Window, context: FeatureBank
    ) -> tuple[FeatureBank, FeatureBank, Tensor]:
        """A window's keyframes with extended attention, to each other and to the context.

        Returns:
            What frames read: by site, the attention features b k n c of the branches that the frame pass computes; by
            injection point, the mode's features 1 k d h w; and the guidance's δ, 1 k c h w. Or, where the whole edit is
            propagated, only that, 1 k c h w.
            What later keyframes attend to: the memories of extended sites, b k …, of the keyframes that are kept.
            The guided prediction, k c h w.
        """
        guidance = self._denoiser.guidance
        keyframes = list(window.keyframes)
        tensors: dict[str, Tensor] = {}
        is_edit_propagated = self._options.is_edit_propagated(step)
        kept_at = frozenset[str]() if is_edit_propagated else self._options.kept
        outputs = KeptFeatures(kept_at, self._frame_conditioning.branches, self._options.kept_on)
        stay = [keyframe for keyframe in window.keyframes if keyframe in window.kept]
        memories = KeptMemories([window.keyframes.index(keyframe) for keyframe in stay])
        references = self._denoiser.references_at(step)

        def attention(injection: Injection) -> AttentionOverride:
            tensors.update((point, features[None]) for point, features in injection.features.items())
            extended = self._options.extended
            return self._options.extended_attention(
                injection, len(keyframes), context, extended, outputs, memories, references
            )

        branches = self._denoiser.predict(keyframes, latents[keyframes], step, guidance.branches, attention)
        conditional, difference = guidance.split(branches)
        guided = guidance.combine(conditional, difference)
        if is_edit_propagated:
            tensors = {EDIT: (guided - self._denoiser.source_prediction(keyframes, step).to(guided))[None]}
        else:
            tensors |= outputs | {DIFFERENCE: difference[None]}
        return FeatureBank(window.keyframes, tensors), FeatureBank(tuple(stay), memories), guided

    def _propagate_edit(self, indices: list[int], latents: Tensor, step: Step, bank: FeatureBank) -> Tensor:
        """The prediction for frames between keyframes: their source's, plus the keyframes' edit, warped."""
        edit = bank.tensors[EDIT][0]  # k c h w
        warp = self._warp(indices, bank, {(latents.shape[-2], latents.shape[-1])}, edit)
        return self._denoiser.source_prediction(indices, step).to(edit) + warp.warp_maps(edit)

    def _frame_pass(self, indices: list[int], latents: Tensor, step: Step, bank: FeatureBank) -> Tensor:
        """The guided prediction for frames between keyframes, with features from the keyframes."""
        denoiser, guidance = self._denoiser, self._denoiser.guidance
        size = latents.shape[-2], latents.shape[-1]
        features = {point: bank.tensors[point] for point in denoiser.model.points if point in bank.tensors}
        # Every grid before the network is called, since finding correspondences may call the network itself.
        grids = {size, *(site.grid(*size) for site in denoiser.model.sites)}
        grids |= {(each.shape[-2], each.shape[-1]) for each in features.values()}
        warp = self._warp(indices, bank, grids, bank.tensors[DIFFERENCE])
        references = denoiser.references_at(step)
        if references is not None:
            references = references.of_last(self._frame_conditioning.branches)
        branches = denoiser.predict_propagated(
            indices,
            latents,
            step,
            self._frame_conditioning,
            _propagated_attention(bank, warp, size, references),
            {point: warp.warp_maps(each[0]) for point, each in features.items()},
        )
        conditional, difference = guidance.split(branches)
        if self._options.propagate_guidance:
            difference = warp.warp_maps(bank.tensors[DIFFERENCE][0])
        return guidance.combine(conditional, difference)

    def _warp(self, indices: list[int], bank: FeatureBank, grids: set[tuple[int, int]], like: Tensor) -> Warp:
        return Warp(indices, bank.keyframes, self._correspondence, grids, like.device, self._options.warp)


def _propagated_attention(
    bank: FeatureBank, warp: Warp, size: tuple[int, int], references: ReferenceFeatures | None
) -> AttentionOverride:
    """The keyframes' features at corresponding places (section 4.2), and a frame's own where it is occluded in them.

    At sites whose features are not in the bank, every frame attends to itself and to the references.
    """
    alone = per_frame_attention() if references is None else references.within_frames()

    def attend(call: AttentionCall) -> Tensor:
        grid = call.site.grid(*size)
        kept = bank.tensors.get(call.site.name)
        if kept is None:
            return alone(call)
        features = warp.warp_sequence(kept, grid, call.text_tokens)  # b f n c
        occluded = warp.grids[grid].occluded
        if occluded is not None:
            frames = occluded.frames[:, None].expand_as(occluded.tokens)[occluded.real]
            tokens = call.text_tokens + occluded.tokens[occluded.real]
            features[:, frames, tokens] = _attend_where_occluded(call, occluded, len(features))
        return features.flatten(0, 1)  # (b f) n c

    return attend


def _attend_where_occluded(call: AttentionCall, occluded: OccludedTokens, branches: int) -> Tensor:
    """The features of occluded tokens by attention to their own frame: b l c, frame by frame."""
    frame_count = len(call.tokens) // branches
    # (b g): the frames that have occluded tokens, in every branch
    rows = torch.cat([occluded.frames + branch * frame_count for branch in range(branches)])
    queries, keys, values = call.project_part(rows, occluded.tokens.repeat(branches, 1))  # (b g) m c, (b g) n c twice
    features = attend_within_frames(call, queries, keys, values)  # (b g) m c
    return features.unflatten(0, (branches, -1))[:, occluded.real]
