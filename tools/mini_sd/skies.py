"""Skies: colours of the hour, clouds or none, sun, moon and stars.

Clouds are where they are under every light: what changes with the light is their colour.
"""

import numpy as np

from tools.mini_sd.painting import HEIGHT, HORIZON, WIDTH, Colour, Painting, mix

# Above, and at the horizon.
COLOURS: dict[str, tuple[tuple[Colour, Colour], ...]] = {
    "day": (
        ((0.36, 0.66, 0.96), (0.84, 0.94, 1.00)),
        ((0.22, 0.50, 0.90), (0.68, 0.85, 0.98)),
        ((0.55, 0.78, 0.92), (0.94, 0.96, 0.94)),
        ((0.70, 0.76, 0.82), (0.87, 0.89, 0.91)),
        ((0.40, 0.75, 0.85), (0.86, 0.96, 0.92)),
    ),
    "sunset": (
        ((0.50, 0.33, 0.60), (1.00, 0.66, 0.34)),
        ((0.30, 0.26, 0.52), (0.98, 0.50, 0.40)),
        ((0.85, 0.50, 0.45), (1.00, 0.82, 0.50)),
        ((0.55, 0.40, 0.55), (0.98, 0.72, 0.62)),
    ),
    "night": (
        ((0.03, 0.04, 0.14), (0.13, 0.17, 0.36)),
        ((0.02, 0.02, 0.06), (0.09, 0.10, 0.18)),
        ((0.08, 0.05, 0.18), (0.22, 0.14, 0.36)),
        ((0.02, 0.07, 0.14), (0.08, 0.22, 0.32)),
    ),
}
CLOUDS: dict[str, Colour] = {"day": (1.0, 1.0, 1.0), "sunset": (1.0, 0.80, 0.66), "night": (0.30, 0.33, 0.48)}
DISCS: dict[str, Colour] = {"day": (1.0, 0.96, 0.72), "sunset": (1.0, 0.86, 0.50), "night": (0.95, 0.95, 0.88)}
DISC_SHARE = {"day": 0.25, "sunset": 0.5, "night": 0.5}  # how often the sun, or the moon, is in the sky


def paint_sky(painting: Painting, clouds: np.random.Generator, lights: np.random.Generator) -> None:
    """The whole canvas above the horizon, from two generators: what every light shares, and the rest."""
    light = painting.light
    above, below = COLOURS[light][lights.integers(len(COLOURS[light]))]
    painting.fill(0, HORIZON, above, below)
    painting.picture[HORIZON:] = painting.picture[HORIZON - 1]
    if light == "night" and lights.random() < 0.85:
        paint_stars(painting, lights, int(lights.integers(15, 90)))
    if lights.random() < DISC_SHARE[light]:
        _paint_disc(painting, lights)
    _paint_clouds(painting, clouds, mix(below, CLOUDS[light], 0.85))


def paint_stars(painting: Painting, rng: np.random.Generator, count: int) -> None:
    """Small white discs."""
    for _ in range(count):
        radius = rng.uniform(1.0, 2.4)
        painting.ellipse((rng.uniform(0, WIDTH), rng.uniform(0, HORIZON)), (radius, radius), (1.0, 1.0, 0.92))


def _paint_disc(painting: Painting, rng: np.random.Generator) -> None:
    lowest = 0.85 if painting.light == "sunset" else 0.6
    x, y, radius = rng.uniform(0.2, 0.8) * WIDTH, rng.uniform(0.3, lowest) * HORIZON, rng.uniform(0.03, 0.075) * HEIGHT
    colour = DISCS[painting.light]
    if painting.shaded:
        painting.soft_ellipses(np.array([[x, y, 2.4 * radius, 2.4 * radius]]), colour, 0.4, 1.2 * radius)
    painting.ellipse((x, y), (radius, radius), colour)


def _paint_clouds(painting: Painting, rng: np.random.Generator, colour: Colour) -> None:
    """None, a few heaps, thin bands, or a covered sky."""
    kind = rng.choice(("none", "heaps", "bands", "covered"), p=(0.25, 0.4, 0.2, 0.15))
    if kind == "none":
        return
    count = {"heaps": int(rng.integers(2, 6)), "bands": int(rng.integers(3, 9)), "covered": int(rng.integers(8, 14))}
    middles = np.stack([rng.uniform(0, WIDTH, count[kind]), rng.uniform(0.05, 0.85, count[kind]) * HORIZON], axis=1)
    if kind == "bands":
        halves = np.stack([rng.uniform(50, 150, count[kind]), rng.uniform(3, 9, count[kind])], axis=1)
        painting.soft_ellipses(np.concatenate([middles, halves], axis=1), colour, rng.uniform(0.4, 0.9), 5)
        return
    puffs = []
    for x, y in middles:
        size = rng.uniform(14, 34)
        for place in np.linspace(-1.4, 1.4, int(rng.integers(3, 6))):
            radius = size * (1.1 - 0.35 * abs(place)) * rng.uniform(0.75, 1.15)
            puffs.append((x + place * size, y - 0.25 * radius, 1.15 * radius, 0.72 * radius))
    painting.soft_ellipses(np.array(puffs), colour, rng.uniform(0.7, 1.0), 7)
