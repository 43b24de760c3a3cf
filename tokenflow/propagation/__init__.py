"""Guided predictions for all frames: every frame by itself, or with features propagated from keyframes."""

from tokenflow.propagation.anchored import Anchored
from tokenflow.propagation.denoiser import EditDenoiser
from tokenflow.propagation.per_frame import PerFrame
from tokenflow.propagation.tokenflow import TokenFlow

__all__ = ["Anchored", "EditDenoiser", "PerFrame", "TokenFlow"]
