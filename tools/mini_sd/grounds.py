"""Grounds: everything below the horizon, in varying colours and textures."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from tools.mini_sd.clutter import FLOWERS, paint_behind, pick, scatter
from tools.mini_sd.painting import HEIGHT, HORIZON, WIDTH, Colour, Painting, mix, times
from tools.mini_sd.skies import paint_stars

# Far and near colours by day; each canvas takes one pair, a little changed.
COLOURS: dict[str, tuple[tuple[Colour, Colour], ...]] = {
    "grass": (
        ((0.46, 0.74, 0.26), (0.24, 0.55, 0.16)),
        ((0.62, 0.76, 0.30), (0.44, 0.60, 0.18)),
        ((0.36, 0.66, 0.40), (0.16, 0.44, 0.26)),
        ((0.70, 0.74, 0.36), (0.52, 0.60, 0.22)),
    ),
    "sand": (
        ((0.95, 0.84, 0.56), (0.86, 0.69, 0.40)),
        ((0.93, 0.70, 0.46), (0.80, 0.54, 0.32)),
        ((0.96, 0.90, 0.74), (0.88, 0.80, 0.60)),
    ),
    "snow": (
        ((0.97, 0.98, 1.00), (0.86, 0.91, 0.98)),
        ((0.90, 0.94, 0.99), (0.98, 0.98, 0.99)),
        ((0.86, 0.91, 0.97), (0.76, 0.84, 0.94)),
    ),
    "the sea": (
        ((0.20, 0.56, 0.82), (0.05, 0.32, 0.62)),
        ((0.26, 0.68, 0.74), (0.06, 0.44, 0.56)),
        ((0.38, 0.56, 0.66), (0.16, 0.34, 0.46)),
        ((0.10, 0.38, 0.66), (0.16, 0.54, 0.80)),
    ),
    "a road": (
        ((0.46, 0.47, 0.50), (0.33, 0.34, 0.37)),
        ((0.58, 0.57, 0.56), (0.46, 0.45, 0.45)),
        ((0.36, 0.36, 0.40), (0.24, 0.24, 0.28)),
    ),
    "a wooden floor": (
        ((0.80, 0.60, 0.38), (0.70, 0.48, 0.27)),
        ((0.62, 0.42, 0.28), (0.50, 0.32, 0.20)),
        ((0.90, 0.76, 0.56), (0.80, 0.64, 0.44)),
        ((0.72, 0.46, 0.30), (0.62, 0.36, 0.22)),
    ),
    "the moon": (
        ((0.66, 0.65, 0.66), (0.50, 0.50, 0.53)),
        ((0.54, 0.55, 0.60), (0.70, 0.70, 0.72)),
        ((0.64, 0.60, 0.56), (0.48, 0.45, 0.43)),
    ),
    "a brick wall": (
        ((0.74, 0.36, 0.27), (0.60, 0.25, 0.19)),
        ((0.64, 0.42, 0.32), (0.52, 0.34, 0.26)),
        ((0.82, 0.50, 0.34), (0.70, 0.40, 0.26)),
        ((0.58, 0.28, 0.26), (0.46, 0.22, 0.22)),
    ),
}
VERGES: tuple[Colour, ...] = ((0.42, 0.66, 0.28), (0.86, 0.76, 0.50), (0.72, 0.70, 0.68), (0.56, 0.62, 0.34))
INDOORS: tuple[Colour, ...] = (
    (0.97, 0.92, 0.80),
    (0.76, 0.86, 0.84),
    (0.92, 0.80, 0.78),
    (0.70, 0.74, 0.86),
    (0.98,) * 3,
)
STONES: tuple[Colour, ...] = ((0.60, 0.58, 0.56), (0.50, 0.48, 0.48), (0.70, 0.66, 0.60))

Pair = tuple[Colour, Colour]


def paint_ground(painting: Painting, background: str, rng: np.random.Generator) -> None:
    """What lies behind, the ground in its colours, its texture, and patches of more or less light."""
    pairs = COLOURS[background]
    change = rng.uniform(0.9, 1.08) * rng.uniform(0.95, 1.05, 3)
    far, near = (times(colour, change) for colour in pairs[rng.integers(len(pairs))])
    PAINTERS[background](painting, rng, (far, near))
    top = 0 if background == "a brick wall" else HORIZON
    painting.roughen(top, HEIGHT, (int(rng.integers(3, 7)), int(rng.integers(3, 9))), rng.uniform(0, 0.09), rng)


def _lay(painting: Painting, colours: Pair) -> None:
    painting.fill(HORIZON, HEIGHT, *(painting.lit(colour) for colour in colours))


def _rows(rng: np.random.Generator, count: int) -> np.ndarray:
    """Row numbers on the ground, closer together towards the horizon."""
    spread = (np.arange(count) + rng.uniform(0.3, 0.7)) / count
    return HORIZON + (HEIGHT - HORIZON) * spread**1.4


def _waves(rng: np.random.Generator, count: int, height: float, length: float) -> list[np.ndarray]:
    x = np.arange(-8, WIDTH + 8, 4)
    return [np.stack([x, row + height * np.sin(x / length + rng.uniform(0, 6.3))], axis=1) for row in _rows(rng, count)]


def _patches(painting: Painting, rng: np.random.Generator, colour: Colour, strength: float, flat: float) -> None:
    count = int(rng.integers(5, 16))
    middles = np.stack([rng.uniform(0, WIDTH, count), rng.uniform(HORIZON + 12, HEIGHT, count)], axis=1)
    halves = rng.uniform(0.08, 0.22, (count, 1)) * HEIGHT * np.array([1, flat])
    far_off = middles[:, 1] - halves[:, 1] < HORIZON
    halves[far_off, 1] = middles[far_off, 1] - HORIZON
    painting.soft_ellipses(np.concatenate([middles, halves], axis=1), painting.lit(colour), strength, 8)


def _paint_grass(painting: Painting, rng: np.random.Generator, colours: Pair) -> None:
    paint_behind(painting, "grass", rng, colours[0])
    _lay(painting, colours)
    if rng.random() < 0.6:
        _patches(painting, rng, times(colours[0], 1.12), 0.4, 0.22)
    tufts: list[np.ndarray] = []
    for _ in range(rng.integers(0, 80)):
        x, y = rng.uniform(0, WIDTH), HORIZON + 16 + rng.uniform(0, 1) * (HEIGHT - HORIZON)
        tufts += [np.array([(x + lean, y - 10), (x, y)]) for lean in (-6, 0, 6)]
    if tufts:
        painting.strokes(tufts, painting.lit(times(colours[1], 0.7)), 2, 0.7)
    if rng.random() < 0.4:
        scatter(painting, rng, FLOWERS, (3, 6), 0.8)


def _paint_sand(painting: Painting, rng: np.random.Generator, colours: Pair) -> None:
    paint_behind(painting, "sand", rng, colours[0])
    _lay(painting, colours)
    if rng.random() < 0.75:
        ripples = _waves(rng, int(rng.integers(4, 14)), rng.uniform(2, 7), rng.uniform(20, 60))
        painting.strokes(ripples, painting.lit(times(colours[1], 0.8)), int(rng.integers(2, 6)), rng.uniform(0.3, 0.7))
    if rng.random() < 0.35:
        scatter(painting, rng, STONES, (4, 14), 0.5)


def _paint_snow(painting: Painting, rng: np.random.Generator, colours: Pair) -> None:
    paint_behind(painting, "snow", rng, colours[0])
    _lay(painting, colours)
    if rng.random() < 0.8:
        _patches(painting, rng, times(colours[1], (0.84, 0.89, 0.96)), rng.uniform(0.3, 0.6), 0.16)
    if rng.random() < 0.25:
        scatter(painting, rng, STONES, (4, 14), 0.5)


def _paint_sea(painting: Painting, rng: np.random.Generator, colours: Pair) -> None:
    paint_behind(painting, "the sea", rng, (0.40, 0.52, 0.36))
    _lay(painting, colours)
    crests = _waves(rng, int(rng.integers(6, 16)), rng.uniform(3, 7), rng.uniform(10, 26))
    colour = painting.lit(mix(colours[0], (0.80, 0.95, 1.0), 0.7))
    painting.strokes(crests, colour, int(rng.integers(2, 6)), rng.uniform(0.45, 0.8))


def _paint_road(painting: Painting, rng: np.random.Generator, colours: Pair) -> None:
    verge = VERGES[rng.integers(len(VERGES))]
    paint_behind(painting, "a road", rng, verge)
    _lay(painting, colours)
    edge = HORIZON + int(rng.uniform(8, 36))
    painting.picture[HORIZON:edge] = np.round(np.array(painting.lit(verge)) * 255)
    painting.picture[edge : edge + int(rng.integers(3, 8))] = np.round(np.array(painting.lit((0.85, 0.85, 0.82))) * 255)
    if rng.random() < 0.8:
        row, start, dash = edge + rng.uniform(80, 110), rng.uniform(0, 80), rng.uniform(40, 70)
        paint = painting.lit(((0.97, 0.95, 0.88), (0.96, 0.80, 0.30))[int(rng.integers(2))])
        for x in np.arange(start - 110, WIDTH, 2 * dash):
            painting.box(x, row, x + dash, row + rng.uniform(7, 10), paint)


def _paint_floor(painting: Painting, rng: np.random.Generator, colours: Pair) -> None:
    wall = painting.lit(pick(INDOORS, rng))
    painting.fill(0, HORIZON, times(wall, 0.9), wall)
    if rng.random() < 0.25:
        step = rng.uniform(24, 60)
        for x in np.arange(0, WIDTH, 2 * step):
            painting.picture[:HORIZON, int(x) : int(x + step)] = np.round(np.array(times(wall, 0.93)) * 255)
    paint_behind(painting, "a wooden floor", rng, wall)
    _lay(painting, colours)
    rows = _rows(rng, int(rng.integers(5, 10)))
    seams = [np.array([(0, row), (WIDTH, row)]) for row in rows]
    for upper, lower in pairwise(rows):
        seams += [np.array([(x, upper), (x, lower)]) for x in rng.uniform(0, WIDTH, 2)]
    painting.strokes(seams, painting.lit(times(colours[1], 0.62)), int(rng.integers(2, 4)), 0.85)
    skirting = mix(wall, painting.lit((0.98, 0.97, 0.94)), 0.7)
    painting.picture[HORIZON - int(rng.integers(5, 14)) : HORIZON] = np.round(np.array(skirting) * 255)


def _paint_moon(painting: Painting, rng: np.random.Generator, colours: Pair) -> None:
    glow = {"day": (0.10, 0.10, 0.14), "sunset": (0.30, 0.14, 0.10), "night": (0.03, 0.04, 0.10)}[painting.light]
    painting.fill(0, HORIZON, (0.01, 0.01, 0.03), glow)
    paint_stars(painting, rng, int(rng.integers(20, 90)))
    if rng.random() < 0.4:
        x, y, radius = rng.uniform(0.2, 0.8) * WIDTH, rng.uniform(0.3, 0.7) * HORIZON, rng.uniform(14, 40)
        painting.ellipse((x, y), (radius, radius), (0.20, 0.42, 0.76))
        painting.ellipse((x - 0.2 * radius, y - 0.2 * radius), (0.5 * radius, 0.3 * radius), (0.36, 0.62, 0.36))
    paint_behind(painting, "the moon", rng, colours[0])
    _lay(painting, colours)
    for _ in range(rng.integers(6, 24)):
        near = rng.uniform(0.05, 1) ** 1.2
        x, y, radius = (
            rng.uniform(0, WIDTH),
            HORIZON + near * (HEIGHT - HORIZON),
            rng.uniform(8, 44) * (0.3 + 0.7 * near),
        )
        painting.ellipse((x, y), (radius, 0.3 * radius), painting.lit(times(colours[0], 1.25)))
        painting.ellipse((x, y - 0.05 * radius), (0.85 * radius, 0.24 * radius), painting.lit(times(colours[1], 0.7)))


def _paint_bricks(painting: Painting, rng: np.random.Generator, colours: Pair) -> None:
    painting.fill(0, HEIGHT, *(painting.lit(colour) for colour in colours))
    step = int(rng.integers(28, 46))
    length, offset = 2 * step, rng.uniform(0, 2 * step)
    joints = [np.array([(0, y), (WIDTH, y)]) for y in range(0, HEIGHT, step)]
    for course, y in enumerate(range(0, HEIGHT, step)):
        start = offset + step * (course % 2) - length
        places = np.arange(start, WIDTH, length)
        joints += [np.array([(x, y), (x, y + step)]) for x in places]
        for x in places[rng.random(len(places)) < 0.15]:
            painting.box(x, y, x + length, y + step, painting.lit(times(colours[course % 2], rng.uniform(0.8, 1.2))))
    painting.strokes(
        joints, painting.lit(pick(((0.86, 0.80, 0.74), (0.60, 0.56, 0.54)), rng)), int(rng.integers(3, 6)), 0.9
    )
    if rng.random() < 0.3:
        paint_behind(painting, "a brick wall", rng, colours[0])


PAINTERS: dict[str, Callable[[Painting, np.random.Generator, Pair], None]] = {
    "grass": _paint_grass,
    "sand": _paint_sand,
    "snow": _paint_snow,
    "the sea": _paint_sea,
    "a road": _paint_road,
    "a wooden floor": _paint_floor,
    "the moon": _paint_moon,
    "a brick wall": _paint_bricks,
}
