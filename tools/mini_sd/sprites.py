"""An object in a material and a style, as a small premultiplied RGBA picture.

Materials are colour maps over the lightness of the drawing, with veins or sheen anchored to the sprite, so that they
move with the object. A family is a folder of sprites: one
for each style, and the one that is held out.
"""

from functools import cache
from pathlib import Path

import cv2
import numpy as np

from tools.mini_sd.words import PLAIN

SPRITES = Path(__file__).parent / "sprites"
HELD_OUT = "held_out"  # a family beside those of the styles, for evaluation alone
SIZE = 192  # pixels of a sprite's side
CONTENT = 176  # pixels of the longer side of what is drawn on it
FEET = 184  # the row that the object stands on

# Lightness 0, 1/3, 2/3, 1 -> RGB.
COLOUR_MAPS = {
    "marble": ((0.60, 0.58, 0.60), (0.78, 0.76, 0.76), (0.90, 0.88, 0.86), (0.98, 0.97, 0.95)),
    "golden": ((0.45, 0.26, 0.02), (0.80, 0.54, 0.06), (0.98, 0.79, 0.18), (1.00, 0.96, 0.62)),
    "silver": ((0.20, 0.23, 0.30), (0.47, 0.51, 0.60), (0.74, 0.78, 0.86), (0.97, 0.98, 1.00)),
    "jade": ((0.02, 0.24, 0.16), (0.10, 0.47, 0.32), (0.30, 0.70, 0.48), (0.76, 0.94, 0.78)),
}

# Around an object of a family: a line of a colour, so many pixels wide.
EDGES = {"cartoon": ((0.17, 0.12, 0.14), 2), "sticker": ((1.0, 1.0, 0.99), 5)}


@cache
def sprite(name: str, material: str, family: str, halvings: int = 0) -> np.ndarray:
    """Premultiplied RGBA in [0,1], facing left: SIZE SIZE 4, or a half, a quarter of it on each side."""
    if halvings:
        larger = sprite(name, material, family, halvings - 1)
        return cv2.resize(larger, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    picture = _load(name, family)
    colour, alpha = picture[..., :3], picture[..., 3:]
    if material != PLAIN:
        colour = _paint(_lightness(colour, alpha[..., 0]), material)
    drawn = np.concatenate([colour * alpha, alpha], axis=2)
    if family in EDGES:
        drawn = _edged(drawn, *EDGES[family])
    # Softened so that the linear interpolation of the renderer does not flicker when it makes the sprite smaller.
    return cv2.GaussianBlur(drawn, (0, 0), 0.7)


@cache
def half_width(name: str, family: str) -> float:
    """Half of the object's width as a share of CONTENT."""
    columns = np.nonzero(_load(name, family)[..., 3].max(axis=0) > 0.5)[0]
    return float(columns.max() - columns.min() + 1) / 2 / CONTENT


def _load(name: str, family: str) -> np.ndarray:
    file = SPRITES / family / f"{name.replace(' ', '_')}.png"
    picture = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise FileNotFoundError(f"{file} is missing; `python -m tools.mini_sd.build_sprites` makes the sprites")
    return cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA).astype(np.float32) / 255


def _edged(drawn: np.ndarray, colour: tuple[float, float, float], width: int) -> np.ndarray:
    """A premultiplied picture with a line around all that is drawn."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    alpha = cv2.dilate(drawn[..., 3], kernel)[..., None]
    edge = np.concatenate([alpha * np.array(colour, np.float32), alpha], axis=2)
    return drawn + edge * (1 - drawn[..., 3:])


def _lightness(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lightness stretched over the object, so that a dark animal in marble is as white as a light one."""
    grey = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    low, high = np.percentile(grey[alpha > 0.5], (3, 97))
    return np.clip((grey - low) / max(high - low, 0.15), 0, 1)


def _paint(lightness: np.ndarray, material: str) -> np.ndarray:
    y, x = np.mgrid[0 : 1 : SIZE * 1j, 0 : 1 : SIZE * 1j].astype(np.float32)
    if material == "silver":
        lightness = lightness + 0.22 * np.sin(2 * np.pi * (2.2 * y + 0.8 * x))
    if material == "jade":
        lightness = 0.85 * lightness + 0.15 * np.sin(2 * np.pi * (1.1 * x - 0.9 * y)) + 0.05
    stops = np.linspace(0, 1, 4)
    colours = np.array(COLOUR_MAPS[material], np.float32)
    painted = np.stack([np.interp(lightness, stops, colours[:, channel]) for channel in range(3)], axis=2)
    if material == "marble":
        painted *= 1 - 0.42 * _veins(x, y)[..., None]
    return painted.astype(np.float32)


def _veins(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Thin wandering diagonal lines, 1 on the line."""
    bend = 0.16 * np.sin(9 * y + 2) + 0.09 * np.sin(17 * x + 11 * y)
    distance = np.abs((2.6 * (x + 0.7 * y + bend)) % 1 - 0.5)
    return np.clip(1 - distance / 0.07, 0, 1)
