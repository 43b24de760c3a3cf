"""A second generator, for evaluation alone: sprites of another hand, and backgrounds cut out of layers of paper.

Nothing is ever trained on it. What holds for its pictures holds for drawn scenes in general, and not only for those
that training has seen. Scenes, clips and their exact flow are those of scene.py and clip.py: `render(scene, KIT)`,
`Clip(scene, motion, kit=KIT)`.
"""

from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np

from tools.mini_sd.painting import HEIGHT, HORIZON, WIDTH
from tools.mini_sd.scene import Kit, Scene, sample_scene
from tools.mini_sd.sprites import HELD_OUT
from tools.mini_sd.words import HELD_OUT_OBJECTS, NOBODY

Colour = tuple[int, int, int]

# By day: the nearest layer of ground, and the farthest.
GROUNDS: dict[str, tuple[Colour, Colour]] = {
    "grass": ((46, 112, 58), (150, 190, 92)),
    "sand": ((196, 140, 84), (240, 214, 150)),
    "snow": ((206, 222, 238), (246, 250, 252)),
    "the sea": ((18, 70, 122), (92, 176, 204)),
    "a road": ((62, 62, 70), (112, 112, 118)),
}
# At the top, and behind the farthest layer.
SKIES: dict[str, tuple[Colour, Colour]] = {
    "day": ((120, 190, 232), (236, 244, 240)),
    "sunset": ((176, 96, 120), (252, 190, 110)),
    "night": ((16, 20, 48), (52, 62, 108)),
}
TINTS = {"day": (1.0, 1.0, 1.0), "sunset": (1.0, 0.76, 0.62), "night": (0.36, 0.40, 0.60)}
BANDS = 7  # steps of colour in the sky
SHEETS = 6  # layers of ground


@lru_cache(maxsize=32)
def canvas(background: str, light: str, style: str, variant: int) -> np.ndarray:
    """HEIGHT WIDTH 3, RGB, 8 bits: layers of paper with soft shadows on one another; the style changes nothing."""
    rng = np.random.default_rng((7, list(GROUNDS).index(background), variant))
    near, far = (np.array(colour) * rng.uniform(0.9, 1.06, 3) for colour in GROUNDS[background])
    picture = _sky(light, rng)
    for sheet in range(SHEETS):
        share = sheet / (SHEETS - 1)
        colour = (far * (1 - share) + near * share) * np.array(TINTS[light])
        row = HORIZON + (HEIGHT - HORIZON) * (0.9 * sheet / SHEETS) ** 1.3
        height = rng.uniform(3, 18) * (0.25 if background == "a road" else 1)
        _lay_sheet(picture, _edge(rng, row, height, background), colour, rng)
    if background == "a road":
        _draw_kerbstones(picture, light, rng)
    return picture


def _sky(light: str, rng: np.random.Generator) -> np.ndarray:
    """Bands of colour, and rings around the sun or the moon."""
    top, bottom = (np.array(colour) * rng.uniform(0.92, 1.08, 3) for colour in SKIES[light])
    share = np.floor(np.linspace(0, BANDS - 0.01, HORIZON + 40)) / (BANDS - 1)
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    bands = top * (1 - share[:, None]) + bottom * share[:, None]
    picture[: HORIZON + 40] = np.clip(bands, 0, 255)[:, None]
    middle, glow = (int(rng.uniform(0.2, 0.8) * WIDTH), int(rng.uniform(0.35, 0.8) * HORIZON)), bottom * 0.4 + 150
    for ring in (3, 2, 1):
        over = picture.copy()
        cv2.circle(over, middle, 22 * ring, np.clip(glow, 0, 255).tolist(), -1, cv2.LINE_AA)
        cv2.addWeighted(over, 0.5, picture, 0.5, 0, dst=picture)
    return picture


def _edge(rng: np.random.Generator, row: float, height: float, background: str) -> np.ndarray:
    """The upper edge of a sheet, WIDTH rows: scallops on the sea, a slow wave elsewhere."""
    x = np.arange(WIDTH)
    phase, length = rng.uniform(0, 6.3), rng.uniform(60, 200)
    if background == "the sea":
        return row - 0.5 * height * np.abs(np.sin(x / length * 5 + phase))
    return row - height * np.sin(x / length + phase)


def _lay_sheet(picture: np.ndarray, edge: np.ndarray, colour: np.ndarray, rng: np.random.Generator) -> None:
    """A sheet of paper below an edge, in place: its shadow first, then itself, with a pattern."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    outline = np.stack([np.arange(WIDTH), edge], axis=1)
    corners = np.concatenate([outline, [(WIDTH, HEIGHT), (0, HEIGHT)]]).round().astype(np.int32)
    cv2.fillPoly(mask, [corners], 255, cv2.LINE_AA)
    shadow = cv2.GaussianBlur(mask, (0, 0), 5)[..., None] / 255 * 0.3
    sheet = np.broadcast_to(colour, picture.shape).astype(np.float32)
    sheet = sheet * (1 + rng.uniform(0.02, 0.10) * _pattern(rng)[..., None])
    share = mask[..., None] / np.float32(255)
    picture[:] = np.clip(picture * (1 - shadow) * (1 - share) + sheet * share, 0, 255)


def _pattern(rng: np.random.Generator) -> np.ndarray:
    """HEIGHT WIDTH in {0, 1}, blurred: dots in a lattice, or slanted lines."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    step, slant = rng.uniform(14, 34), rng.uniform(-1, 1)
    if rng.random() < 0.5:
        marks = np.hypot((x + slant * y) % step - step / 2, y % step - step / 2) < step / 6
    else:
        marks = (x + slant * y) % step < step / 4
    return cv2.GaussianBlur(marks.astype(np.float32), (0, 0), 0.8)


def _draw_kerbstones(picture: np.ndarray, light: str, rng: np.random.Generator) -> None:
    """Light and dark stones along the far side of a road."""
    length, row = int(rng.uniform(26, 48)), HORIZON + 6
    for place, x in enumerate(range(0, WIDTH, length)):
        colour = np.array((224, 220, 212) if place % 2 else (168, 60, 54)) * np.array(TINTS[light])
        cv2.rectangle(picture, (x, row), (x + length, row + 12), colour.tolist(), -1)


KIT = Kit(canvas, HELD_OUT)


def sample_held_out_scene(rng: np.random.Generator) -> Scene:
    """A scene as training has them, of what this generator can draw."""
    scene = sample_scene(rng)
    companion = str(rng.choice(HELD_OUT_OBJECTS)) if scene.words.companion != NOBODY else NOBODY
    return replace(
        scene.with_words(
            object=str(rng.choice(HELD_OUT_OBJECTS)),
            style="flat",
            background=str(rng.choice(list(GROUNDS))),
            companion=companion,
        )
    )
