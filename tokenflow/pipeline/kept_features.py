"""How much memory the keyframes' attention features take, and where they rest, said before an edit begins."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tokenflow.config import Edit
from tokenflow.models.attention import Site
from tokenflow.modes.source import InvertedClip
from tokenflow.propagation.kept_features import feature_bytes
from tokenflow.report.units import format_bytes

MAX_SHARE = 0.5
"""Of the device's free memory, which they may take there."""

MIN_SAID = 10**9
"""Bytes from which it is said how many they are."""


@dataclass(frozen=True)
class KeptFeatures:
    """What is kept of the keyframes for the frames between.

    Attributes:
        count: bytes.
        in_main_memory: whether it rests there, instead of on the model's device.
    """

    count: int
    in_main_memory: bool

    @property
    def worth_saying(self) -> str:
        """What to say before the edit; empty if it is little."""
        if self.count < MIN_SAID and not self.in_main_memory:
            return ""
        where = " of main memory" if self.in_main_memory else ""
        return f"keyframes' features take {format_bytes(self.count)}{where}"


def kept_sites(sites: Sequence[Site], layers: str) -> Sequence[Site]:
    """The sites whose features are kept: all, or every second one, the first included."""
    return sites[::2] if layers == "half" else sites


def predict_kept(source: InvertedClip, edit: Edit, keyframes: int) -> KeptFeatures:
    """What an edit keeps, for so many keyframes at a time."""
    model = source.model
    height, width = source.latents(model.schedule.clean, [0]).shape[-2:]
    prompt = source.conditioning.tokens  # 1 n c
    both_branches = model.guidance == "branches" and edit.guidance == "per_frame" and edit.guidance_scale > 1
    count = feature_bytes(
        kept_sites(model.sites, edit.propagated_layers),
        (height, width),
        text_tokens=prompt.shape[1] if model.joins_text else 0,
        images=2 if edit.mode == "instruct" else 1,
        keyframes=keyframes,
        branches=2 if both_branches else 1,
        element_bytes=prompt.element_size(),
    )
    if edit.kept_features != "auto" or model.device.type != "cuda":
        return KeptFeatures(count, edit.kept_features == "main_memory")
    free, _ = torch.cuda.mem_get_info(model.device)
    return KeptFeatures(count, count > MAX_SHARE * free)
