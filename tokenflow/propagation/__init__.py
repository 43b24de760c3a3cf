"""Guided predictions for all frames: every frame by itself, or with features propagated from keyframes."""

from tokenflow.propagation.denoiser import EditDenoiser
from tokenflow.propagation.per_frame import PerFrame
from tokenflow.propagation.tokenflow import TokenFlow

__all__ = ["EditDenoiser", "PerFrame", "TokenFlow"]
