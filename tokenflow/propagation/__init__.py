"""From latents to guided predictions: every frame by itself, or keyframes whose features are propagated to all frames."""

from tokenflow.propagation.denoiser import EditDenoiser
from tokenflow.propagation.per_frame import PerFrame
from tokenflow.propagation.tokenflow import TokenFlow

__all__ = ["EditDenoiser", "PerFrame", "TokenFlow"]
