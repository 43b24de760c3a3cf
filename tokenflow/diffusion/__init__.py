"""Diffusion mathematics: levels, schedules, inversion, sampling. Independent of any model family."""
