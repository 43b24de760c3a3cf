"""What stands far off on the horizon and lies about on the ground; all of it may be missing."""

from collections.abc import Callable

import numpy as np

from tools.mini_sd.painting import HEIGHT, HORIZON, WIDTH, Colour, Painting, mix, times

GREENS: tuple[Colour, ...] = ((0.25, 0.50, 0.20), (0.36, 0.58, 0.24), (0.20, 0.44, 0.30), (0.55, 0.55, 0.22))
WALLS: tuple[Colour, ...] = ((0.90, 0.82, 0.70), (0.78, 0.44, 0.36), (0.72, 0.74, 0.78), (0.86, 0.72, 0.50))
ROOFS: tuple[Colour, ...] = ((0.62, 0.28, 0.22), (0.36, 0.32, 0.36), (0.48, 0.34, 0.24))
FLOWERS: tuple[Colour, ...] = ((0.98, 0.95, 0.96), (0.98, 0.84, 0.28), (0.90, 0.36, 0.44), (0.66, 0.50, 0.86))


def pick(colours: tuple[Colour, ...], rng: np.random.Generator) -> Colour:
    """One of the colours, a little brighter or darker."""
    return times(colours[rng.integers(len(colours))], rng.uniform(0.85, 1.1))


def skyline(rng: np.random.Generator, height: float, waves: tuple[float, ...]) -> np.ndarray:
    """WIDTH heights in pixels, of at most about `height`: a sum of waves of so many periods across the canvas."""
    x = np.arange(WIDTH) / WIDTH
    sines = [np.sin(2 * np.pi * (wave * x + rng.random())) / (1 + place) for place, wave in enumerate(waves)]
    return height * (0.55 + 0.3 * np.sum(sines, axis=0)).clip(0, None)


def paint_hills(painting: Painting, rng: np.random.Generator, ground: Colour) -> None:
    """One or two rows of hills in the colour of the ground, the farther the paler."""
    for paleness in (0.45, 0.15)[int(rng.integers(2)) :]:
        colour = painting.lit(mix(times(ground, rng.uniform(0.7, 0.95)), (0.75, 0.82, 0.90), paleness))
        heights = skyline(rng, rng.uniform(15, 60), (rng.uniform(1, 3), rng.uniform(3, 6)))
        painting.ridge(heights, HORIZON, colour)


def paint_mountains(painting: Painting, rng: np.random.Generator, ground: Colour) -> None:
    """Peaks, perhaps with snow on them."""
    colour = painting.lit(mix(times(ground, 0.6), (0.55, 0.58, 0.68), 0.7))
    snowy = rng.random() < 0.5
    for _ in range(rng.integers(3, 8)):
        x, height = rng.uniform(0, WIDTH), rng.uniform(40, 120)
        width, lean = height * rng.uniform(0.7, 1.3), rng.uniform(-0.3, 0.3) * height
        top = np.array((x + lean, HORIZON - height))
        left, right = np.array((x - width, HORIZON)), np.array((x + width, HORIZON))
        painting.polygon([left, top, right], times(colour, rng.uniform(0.9, 1.1)))
        if snowy:
            cap = [
                top + 0.3 * (left - top),
                top,
                top + 0.3 * (right - top),
                top + 0.22 * (np.array((x, HORIZON)) - top),
            ]
            painting.polygon(cap, painting.lit((0.95, 0.97, 1.0)))


def paint_trees(painting: Painting, rng: np.random.Generator, ground: Colour) -> None:
    """Round trees along the horizon."""
    for x in rng.uniform(0, WIDTH, rng.integers(2, 10)):
        size, foot = rng.uniform(14, 40), HORIZON + rng.uniform(0, 6)
        leaves = painting.lit(pick(GREENS, rng))
        painting.box(x - 0.1 * size, foot - size, x + 0.1 * size, foot, painting.lit((0.42, 0.30, 0.20)))
        for aside, up in ((-0.45, 1.1), (0.45, 1.15), (0.0, 1.55)):
            painting.ellipse((x + aside * size, foot - up * size), (0.6 * size, 0.55 * size), leaves)
        painting.ellipse((x - 0.15 * size, foot - 1.6 * size), (0.3 * size, 0.25 * size), times(leaves, 1.15))


def paint_firs(painting: Painting, rng: np.random.Generator, ground: Colour) -> None:
    """Firs of three storeys along the horizon."""
    for x in rng.uniform(0, WIDTH, rng.integers(3, 14)):
        size, foot = rng.uniform(22, 60), HORIZON + rng.uniform(0, 6)
        colour = painting.lit(times((0.16, 0.38, 0.26), rng.uniform(0.8, 1.25)))
        painting.box(x - 0.05 * size, foot - 0.3 * size, x + 0.05 * size, foot, painting.lit((0.36, 0.26, 0.18)))
        for storey in range(3):
            bottom, half = foot - (0.18 + 0.25 * storey) * size, (0.34 - 0.08 * storey) * size
            painting.polygon([(x - half, bottom), (x, bottom - 0.45 * size), (x + half, bottom)], colour)


def paint_bushes(painting: Painting, rng: np.random.Generator, ground: Colour) -> None:
    """A hedge of round bushes, thick or thin."""
    for x in rng.uniform(0, WIDTH, rng.integers(4, 24)):
        size = rng.uniform(10, 26)
        colour = painting.lit(pick(GREENS, rng))
        painting.ellipse((x, HORIZON - 0.3 * size), (1.2 * size, 0.9 * size), colour)
        painting.ellipse((x - 0.3 * size, HORIZON - 0.6 * size), (0.5 * size, 0.3 * size), times(colour, 1.15))


def paint_houses(painting: Painting, rng: np.random.Generator, ground: Colour) -> None:
    """Houses with roofs and windows, lit at night."""
    window = (0.98, 0.86, 0.45) if painting.light == "night" else painting.lit((0.62, 0.78, 0.90))
    for x in rng.uniform(0, WIDTH, rng.integers(1, 6)):
        width, height = rng.uniform(30, 60), rng.uniform(24, 48)
        painting.box(x, HORIZON - height, x + width, HORIZON + 2, painting.lit(pick(WALLS, rng)))
        roof = [(x - 5, HORIZON - height), (x + width / 2, HORIZON - 1.6 * height), (x + width + 5, HORIZON - height)]
        painting.polygon(roof, painting.lit(pick(ROOFS, rng)))
        for place in (0.22, 0.62):
            left, top = x + place * width, HORIZON - 0.7 * height
            painting.box(left, top, left + 0.18 * width, top + 0.3 * height, window)


def paint_towers(painting: Painting, rng: np.random.Generator, ground: Colour) -> None:
    """A town of plain towers."""
    tone = mix(pick(WALLS, rng), (0.55, 0.60, 0.70), 0.7)
    x = -rng.uniform(0, 40)
    while x < WIDTH:
        width, height = rng.uniform(24, 60), rng.uniform(20, 110)
        if rng.random() < 0.8:
            colour = painting.lit(times(tone, rng.uniform(0.75, 1.1)))
            painting.box(x, HORIZON - height, x + width, HORIZON + 2, colour)
        x += width


def paint_fence(painting: Painting, rng: np.random.Generator, ground: Colour) -> None:
    """A fence of posts and two rails."""
    wood = painting.lit(times((0.72, 0.56, 0.40), rng.uniform(0.7, 1.3)))
    foot, height, step = HORIZON + 8, rng.uniform(26, 44), rng.uniform(22, 44)
    for share in (0.35, 0.75):
        painting.box(-4, foot - (share + 0.1) * height, WIDTH + 4, foot - share * height, wood)
    for x in np.arange(rng.uniform(0, step), WIDTH, step):
        painting.box(x, foot - height, x + 6, foot, wood)


def paint_wall(painting: Painting, rng: np.random.Generator, ground: Colour) -> None:
    """On a wall indoors or out: pictures, or windows."""
    for x in np.arange(rng.uniform(0, 150), WIDTH, rng.uniform(110, 260)):
        width, height, top = rng.uniform(36, 80), rng.uniform(40, 90), HORIZON - rng.uniform(120, 190)
        inside = rng.random(3) * 0.7 + 0.2
        painting.box(x - 4, top - 4, x + width + 4, top + height + 4, painting.lit(pick(WALLS, rng)))
        painting.box(x, top, x + width, top + height, painting.lit(times((1.0, 1.0, 1.0), inside)))


def scatter(
    painting: Painting, rng: np.random.Generator, colours: tuple[Colour, ...], sizes: tuple[float, float], flat: float
) -> None:
    """Up to thirty flat things on the ground, smaller towards the horizon."""
    for _ in range(rng.integers(4, 30)):
        near = rng.uniform(0.06, 1) ** 1.3
        size = rng.uniform(*sizes) * (0.35 + 0.65 * near)
        middle = rng.uniform(0, WIDTH), HORIZON + near * (HEIGHT - HORIZON)
        colour = painting.lit(pick(colours, rng))
        painting.ellipse(middle, (size, flat * size), colour)
        if size > 6:
            painting.ellipse(
                (middle[0], middle[1] - 0.3 * flat * size), (0.7 * size, 0.5 * flat * size), times(colour, 1.12)
            )


Paint = Callable[[Painting, np.random.Generator, Colour], None]
EVERYWHERE: tuple[Paint, ...] = (paint_hills, paint_mountains)
BEHIND: dict[str, tuple[Paint, ...]] = {
    "grass": (*EVERYWHERE, paint_trees, paint_firs, paint_bushes, paint_houses, paint_fence),
    "sand": (*EVERYWHERE, paint_bushes),
    "snow": (*EVERYWHERE, paint_firs, paint_houses, paint_fence),
    "the sea": (*EVERYWHERE, paint_towers),
    "a road": (*EVERYWHERE, paint_trees, paint_firs, paint_bushes, paint_houses, paint_towers),
    "a wooden floor": (paint_wall,),
    "the moon": EVERYWHERE,
    "a brick wall": (paint_wall,),
}


def paint_behind(painting: Painting, background: str, rng: np.random.Generator, ground: Colour) -> None:
    """Nothing, or one or two kinds of things."""
    kinds = BEHIND[background]
    for _ in range(rng.choice(3, p=(0.3, 0.5, 0.2))):
        kinds[rng.integers(len(kinds))](painting, rng, ground)
