"""From latents to guided noise: every frame for itself, or keyframes' features carried to every frame."""

from tokenflow.propagation.denoiser import EditDenoiser, Guidance
from tokenflow.propagation.per_frame import PerFrame
from tokenflow.propagation.tokenflow import TokenFlow

__all__ = ["EditDenoiser", "Guidance", "PerFrame", "TokenFlow"]
