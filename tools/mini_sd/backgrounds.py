"""A background under a light, painted on a canvas that is wider than the picture.

The canvas lies in world units (1 = the height of a picture at zoom 1; x to the right, y down, y = 0 the horizon),
so that a camera that pans or zooms moves everything on it by one affine map. Textures are drawn with few soft
strokes: noise of single pixels would cost the autoencoder bits that the objects need. Knows nothing of objects or
cameras.
"""

from collections.abc import Callable
from functools import lru_cache
from itertools import pairwise

import cv2
import numpy as np

from tools.mini_sd.words import BACKGROUNDS, DAY, LIGHTS

VARIANTS = 12  # differently painted canvases of each background
RESOLUTION = 160  # canvas pixels to a world unit
HALF_WIDTH, TOP, BOTTOM = 1.25, -0.9, 0.9
WIDTH, HEIGHT = round(2 * HALF_WIDTH * RESOLUTION), round((BOTTOM - TOP) * RESOLUTION)
HORIZON = round(-TOP * RESOLUTION)

Colour = tuple[float, float, float]

SKIES: dict[str, tuple[Colour, Colour]] = {
    "day": ((0.36, 0.66, 0.96), (0.84, 0.94, 1.00)),
    "sunset": ((0.50, 0.33, 0.60), (1.00, 0.66, 0.34)),
    "night": ((0.03, 0.04, 0.14), (0.13, 0.17, 0.36)),
}
# What a light does to everything under the sky.
GROUND_TINT: dict[str, Colour] = {
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.0, 0.72, 0.56),
    "night": (0.30, 0.36, 0.58),
}

CANVAS_TO_WORLD = np.array(
    [[1 / RESOLUTION, 0, 0.5 / RESOLUTION - HALF_WIDTH], [0, 1 / RESOLUTION, 0.5 / RESOLUTION + TOP], [0, 0, 1]]
)


@lru_cache(maxsize=len(BACKGROUNDS) * len(LIGHTS) * 2 * VARIANTS)
def canvas(background: str, light: str, style: str, variant: int) -> np.ndarray:
    """HEIGHT WIDTH 3, RGB, 8 bits. The same arguments give the same canvas; variant picks one of VARIANTS."""
    variant %= VARIANTS
    rng = np.random.default_rng((BACKGROUNDS.index(background), variant))
    shaded = style == "3d"
    picture = np.empty((HEIGHT, WIDTH, 3), np.float32)
    _fill(picture, 0, HEIGHT, *SKIES[light], shaded, reach=HORIZON)
    _paint_sky(picture, light, rng, shaded)
    PAINTERS[background](picture, light, rng, shaded)
    picture = cv2.GaussianBlur(np.clip(picture, 0, 1), (0, 0), 0.8)
    return np.round(picture * 255).astype(np.uint8)


def _fill(
    picture: np.ndarray, top: int, bottom: int, upper: Colour, lower: Colour, shaded: bool, reach: int | None = None
) -> None:
    """Rows top to bottom: a gradient where the style is shaded, else the colour of its middle."""
    mix = np.clip(np.linspace(0, (bottom - top) / (reach or bottom - top), bottom - top), 0, 1)[:, None, None]
    if not shaded:
        mix = np.full_like(mix, 0.5)
    picture[top:bottom] = np.array(upper) * (1 - mix) + np.array(lower) * mix


def _band(picture: np.ndarray, top: int, bottom: int, colour: Colour) -> None:
    """Rows top to bottom in one colour."""
    picture[top:bottom] = colour


def _ground(picture: np.ndarray, light: str, rng: np.random.Generator, far: Colour, near: Colour, shaded: bool) -> None:
    tint = np.array(GROUND_TINT[light]) * rng.uniform(0.93, 1.05) * rng.uniform(0.97, 1.03, 3)
    _fill(picture, HORIZON, HEIGHT, _times(far, tint), _times(near, tint), shaded)


def _times(colour: Colour, tint: np.ndarray | Colour) -> Colour:
    red, green, blue = np.clip(np.array(colour) * np.array(tint), 0, 1)
    return float(red), float(green), float(blue)


def _blobs(
    picture: np.ndarray,
    rng: np.random.Generator,
    count: int,
    rows: tuple[float, float],
    radii: tuple[float, float],
    colour: Colour,
    strength: float,
    soft: float,
    flatness: float = 0.3,
) -> None:
    """Soft ellipses between two rows (shares of the canvas below its top), blended in with the given strength."""
    layer = np.zeros((HEIGHT, WIDTH), np.float32)
    for _ in range(count):
        centre = rng.uniform(0, WIDTH), rng.uniform(*rows) * HEIGHT
        radius = rng.uniform(*radii) * HEIGHT
        axes = max(1, round(radius)), max(1, round(radius * flatness))
        cv2.ellipse(layer, (round(centre[0]), round(centre[1])), axes, 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    if soft:
        layer = cv2.GaussianBlur(layer, (0, 0), soft)
    weight = strength * np.minimum(layer, 1)[..., None]
    picture += weight * (np.array(colour, np.float32) - picture)


def _lines(
    picture: np.ndarray, strokes: list[np.ndarray], colour: Colour, strength: float, thickness: int, soft: float = 0
) -> None:
    """Polylines in canvas pixels, blended in with the given strength."""
    layer = np.zeros((HEIGHT, WIDTH), np.float32)
    points = [np.round(stroke).astype(np.int32) for stroke in strokes]
    cv2.polylines(layer, points, False, 1.0, thickness, cv2.LINE_AA)
    if soft:
        layer = cv2.GaussianBlur(layer, (0, 0), soft)
    weight = strength * np.minimum(layer, 1)[..., None]
    picture += weight * (np.array(colour, np.float32) - picture)


def _paint_sky(picture: np.ndarray, light: str, rng: np.random.Generator, shaded: bool) -> None:
    if light == "night":
        _stars(picture, *rng.spawn(1))
    cloud = (1.0, 1.0, 1.0) if light == DAY else (1.0, 0.80, 0.62)
    sky = picture.copy() if light == "night" else picture
    # Drawn at night too, where they are not seen: what comes after them has to be the same under every light.
    _blobs(sky, rng, 9, (0.02, 0.36), (0.05, 0.14), cloud, 0.8, 5 if shaded else 0, flatness=0.34)


def _stars(picture: np.ndarray, rng: np.random.Generator) -> None:
    _blobs(picture, rng, 40, (0.0, 0.48), (0.0065, 0.009), (1.0, 1.0, 0.9), 0.9, 0, flatness=1)


def _rows(rng: np.random.Generator, count: int) -> np.ndarray:
    """Row numbers on the ground, closer together towards the horizon."""
    spread = (np.arange(count) + rng.uniform(0.3, 0.7)) / count
    return HORIZON + (HEIGHT - HORIZON) * spread**1.4


def _waves(rng: np.random.Generator, count: int, height: float, length: float) -> list[np.ndarray]:
    x = np.arange(-8, WIDTH + 8, 4)
    return [np.stack([x, row + height * np.sin(x / length + rng.uniform(0, 6.3))], axis=1) for row in _rows(rng, count)]


def _paint_grass(picture: np.ndarray, light: str, rng: np.random.Generator, shaded: bool) -> None:
    _ground(picture, light, rng, (0.46, 0.74, 0.26), (0.24, 0.55, 0.16), shaded)
    tint = GROUND_TINT[light]
    _blobs(picture, rng, 14, (0.56, 1.0), (0.08, 0.2), _times((0.55, 0.80, 0.30), tint), 0.4, 6, flatness=0.22)
    tufts = []
    for _ in range(60):
        x, y = rng.uniform(0, WIDTH), HORIZON + 12 + rng.uniform(0, 1) * (HEIGHT - HORIZON)
        tufts += [np.array([(x + lean, y - 6), (x, y)]) for lean in (-4, 0, 4)]
    _lines(picture, tufts, _times((0.15, 0.40, 0.10), tint), 0.7, 2)


def _paint_sand(picture: np.ndarray, light: str, rng: np.random.Generator, shaded: bool) -> None:
    _ground(picture, light, rng, (0.95, 0.84, 0.56), (0.86, 0.69, 0.40), shaded)
    ripples = _waves(rng, 8, 3, 22)
    _lines(picture, ripples, _times((0.70, 0.52, 0.28), GROUND_TINT[light]), 0.6, 3, soft=1.2)


def _paint_snow(picture: np.ndarray, light: str, rng: np.random.Generator, shaded: bool) -> None:
    _ground(picture, light, rng, (0.97, 0.98, 1.0), (0.86, 0.91, 0.98), shaded)
    drift = _times((0.70, 0.79, 0.92), GROUND_TINT[light])
    _blobs(picture, rng, 16, (0.56, 1.0), (0.1, 0.2), drift, 0.55, 5, flatness=0.16)


def _paint_sea(picture: np.ndarray, light: str, rng: np.random.Generator, shaded: bool) -> None:
    _ground(picture, light, rng, (0.20, 0.56, 0.82), (0.05, 0.32, 0.62), shaded)
    crests = _waves(rng, 10, 3.5, 9)
    _lines(picture, crests, _times((0.62, 0.86, 0.98), GROUND_TINT[light]), 0.75, 3)


def _paint_road(picture: np.ndarray, light: str, rng: np.random.Generator, shaded: bool) -> None:
    tint = GROUND_TINT[light]
    _ground(picture, light, rng, (0.46, 0.47, 0.50), (0.33, 0.34, 0.37), shaded)
    verge = HORIZON + 12
    _band(picture, HORIZON, verge, _times((0.42, 0.66, 0.28), tint))
    _band(picture, verge, verge + 4, _times((0.85, 0.85, 0.82), tint))
    row, start = HORIZON + rng.uniform(66, 74), rng.uniform(0, 50)
    dashes = [np.array([(x, row), (x + 32, row)]) for x in np.arange(start - 64, WIDTH, 64)]
    _lines(picture, dashes, _times((0.97, 0.95, 0.88), tint), 1.0, 6)


def _paint_floor(picture: np.ndarray, light: str, rng: np.random.Generator, shaded: bool) -> None:
    tint = GROUND_TINT[light]
    wall = _times((0.97, 0.92, 0.80), np.array(tint) * rng.uniform(0.93, 1.0))
    _fill(picture, 0, HORIZON, _times(wall, (0.88, 0.88, 0.88)), wall, shaded)
    _ground(picture, light, rng, (0.80, 0.60, 0.38), (0.70, 0.48, 0.27), shaded)
    rows = _rows(rng, 7)
    seams = [np.array([(0, row), (WIDTH, row)]) for row in rows]
    for upper, lower in pairwise(rows):
        seams += [np.array([(x, upper), (x, lower)]) for x in rng.uniform(0, WIDTH, 2)]
    _lines(picture, seams, _times((0.45, 0.28, 0.14), tint), 0.85, 2)
    _band(picture, HORIZON - 7, HORIZON, _times((0.98, 0.97, 0.94), tint))


def _paint_moon(picture: np.ndarray, light: str, rng: np.random.Generator, shaded: bool) -> None:
    sky_glow = {"day": (0.10, 0.10, 0.14), "sunset": (0.30, 0.14, 0.10), "night": (0.03, 0.04, 0.10)}[light]
    _fill(picture, 0, HORIZON, (0.01, 0.01, 0.03), sky_glow, shaded)
    _stars(picture, rng)
    tint = GROUND_TINT[light]
    _ground(picture, light, rng, (0.66, 0.65, 0.66), (0.50, 0.50, 0.53), shaded)
    state = rng.bit_generator.state
    _blobs(picture, rng, 18, (0.55, 1.0), (0.03, 0.09), _times((0.84, 0.83, 0.82), tint), 0.8, 1)
    rng.bit_generator.state = state  # the same craters again: a dark bowl inside each light rim
    _blobs(picture, rng, 18, (0.545, 0.995), (0.025, 0.08), _times((0.36, 0.36, 0.40), tint), 0.9, 1)


def _paint_bricks(picture: np.ndarray, light: str, rng: np.random.Generator, shaded: bool) -> None:
    tint = np.array(GROUND_TINT[light]) * rng.uniform(0.94, 1.04)
    _fill(picture, 0, HEIGHT, _times((0.74, 0.36, 0.27), tint), _times((0.60, 0.25, 0.19), tint), shaded)
    step, length = 24, 48
    offset = rng.uniform(0, length)
    joints = [np.array([(0, y), (WIDTH, y)]) for y in range(0, HEIGHT, step)]
    for course, y in enumerate(range(0, HEIGHT, step)):
        start = offset + length / 2 * (course % 2) - length
        joints += [np.array([(x, y), (x, y + step)]) for x in np.arange(start, WIDTH, length)]
    _lines(picture, joints, _times((0.86, 0.80, 0.74), tint), 0.9, 3)


PAINTERS: dict[str, Callable[[np.ndarray, str, np.random.Generator, bool], None]] = {
    "grass": _paint_grass,
    "sand": _paint_sand,
    "snow": _paint_snow,
    "the sea": _paint_sea,
    "a road": _paint_road,
    "a wooden floor": _paint_floor,
    "the moon": _paint_moon,
    "a brick wall": _paint_bricks,
}
