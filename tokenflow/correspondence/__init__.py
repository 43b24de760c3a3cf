"""Correspondence between the frames of a clip: by optical flow, or by diffusion features."""
