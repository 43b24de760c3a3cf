"""Edited frames to every frame of a clip, in pixels: along optical flow, and in layers that move by themselves."""
