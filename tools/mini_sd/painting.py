"""Brushes: how colours, shapes and textures get onto a canvas, in a light and in the look of a style.

A canvas is HEIGHT WIDTH 3, RGB, 8 bits, in world units of 1 / RESOLUTION a pixel; its horizon is the row HORIZON.
Colours are shares of red, green and blue by day; shapes are given in canvas pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

RESOLUTION = 256  # canvas pixels to a world unit
HALF_WIDTH, TOP, BOTTOM = 1.25, -0.9, 0.9
WIDTH, HEIGHT = round(2 * HALF_WIDTH * RESOLUTION), round((BOTTOM - TOP) * RESOLUTION)
HORIZON = round(-TOP * RESOLUTION)
COARSE = 4  # soft shapes are drawn this many times smaller
OUTLINE = (0.20, 0.16, 0.18)

Colour = tuple[float, float, float]
Points = Sequence[tuple[float, float]] | np.ndarray

# What a light does to everything under the sky.
GROUND_TINT: dict[str, Colour] = {
    "day": (1.0, 1.0, 1.0),
    "sunset": (1.0, 0.72, 0.56),
    "night": (0.30, 0.36, 0.58),
}


def times(colour: Colour, factor: Colour | np.ndarray | float) -> Colour:
    """A colour made darker, brighter or of another tint, kept in [0,1]."""
    red, green, blue = np.clip(np.array(colour) * np.array(factor), 0, 1)
    return float(red), float(green), float(blue)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """A colour between two, `share` of the way to the second."""
    red, green, blue = np.array(first) * (1 - share) + np.array(second) * share
    return float(red), float(green), float(blue)


@dataclass
class Painting:
    """A canvas in the making. shaded: with gradients; outlined: shapes have a dark line around them."""

    light: str
    shaded: bool
    outlined: bool
    picture: np.ndarray = field(default_factory=lambda: np.zeros((HEIGHT, WIDTH, 3), np.uint8))

    def lit(self, colour: Colour) -> Colour:
        """A colour of the ground, and of what stands on it, under the painting's light."""
        return times(colour, GROUND_TINT[self.light])

    def fill(self, top: int, bottom: int, upper: Colour, lower: Colour) -> None:
        """Rows top to bottom: a gradient where the style is shaded, else the colour of its middle."""
        share = np.linspace(0, 1, bottom - top)[:, None, None] if self.shaded else 0.5
        self.picture[top:bottom] = np.round((np.array(upper) * (1 - share) + np.array(lower) * share) * 255)

    def polygon(self, points: Points, colour: Colour) -> None:
        """A filled polygon."""
        corners = [np.round(np.asarray(points)).astype(np.int32)]
        cv2.fillPoly(self.picture, corners, _ink(colour), cv2.LINE_AA)
        if self.outlined:
            cv2.polylines(self.picture, corners, True, _ink(self.lit(OUTLINE)), 2, cv2.LINE_AA)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled rectangle."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def ridge(self, heights: np.ndarray, base: int, colour: Colour) -> None:
        """All between a skyline (heights of WIDTH columns above `base`, in pixels) and the row `base`."""
        columns = np.arange(0, WIDTH, 4)
        line = np.stack([columns, base - heights[columns]], axis=1)
        self.polygon([(-8, base + 4), (-8, line[0, 1]), *line, (WIDTH + 8, line[-1, 1]), (WIDTH + 8, base + 4)], colour)

    def ellipse(self, centre: tuple[float, float], axes: tuple[float, float], colour: Colour) -> None:
        """A filled ellipse, upright."""
        middle, half = (round(centre[0]), round(centre[1])), (max(1, round(axes[0])), max(1, round(axes[1])))
        cv2.ellipse(self.picture, middle, half, 0, 0, 360, _ink(colour), -1, cv2.LINE_AA)

    def strokes(self, lines: Sequence[Points], colour: Colour, thickness: int, strength: float = 1.0) -> None:
        """Polylines, blended in with the given strength."""
        over = self.picture.copy()
        points = [np.round(np.asarray(line)).astype(np.int32) for line in lines]
        cv2.polylines(over, points, False, _ink(colour), thickness, cv2.LINE_AA)
        cv2.addWeighted(over, strength, self.picture, 1 - strength, 0, dst=self.picture)

    def soft_ellipses(self, ellipses: np.ndarray, colour: Colour, strength: float, soft: float) -> None:
        """Ellipses (n 4: middle and half axes) as one shape, its border `soft` pixels wide in a shaded style."""
        scale = COARSE if self.shaded and not self.outlined else 1
        layer = np.zeros((HEIGHT // scale, WIDTH // scale), np.uint8)
        for x, y, across, down in np.maximum(1, np.round(ellipses / scale)).astype(int).tolist():
            cv2.ellipse(layer, (x, y), (across, down), 0, 0, 360, 255, -1, cv2.LINE_AA)
        if scale > 1:
            layer = cv2.resize(cv2.GaussianBlur(layer, (0, 0), soft / scale), (WIDTH, HEIGHT))
        self.blend(layer.astype(np.float32) * np.float32(strength / 255), colour)

    def blend(self, weight: np.ndarray, colour: Colour) -> None:
        """A colour laid over with a weight H W in [0,1]."""
        solid = np.empty_like(self.picture)
        solid[:] = _ink(colour)
        self.picture = cv2.blendLinear(self.picture, solid, 1 - weight, weight)

    def roughen(self, top: int, bottom: int, cells: tuple[int, int], strength: float, rng: np.random.Generator) -> None:
        """Lighter and darker patches of random sizes on rows top to bottom: texture, or the fall of light."""
        coarse = rng.normal(1, strength, cells).astype(np.float32)
        factor = cv2.resize(coarse, (WIDTH, bottom - top), interpolation=cv2.INTER_CUBIC)[..., None]
        self.picture[top:bottom] = np.clip(self.picture[top:bottom] * factor, 0, 255)


def _ink(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in colour)
    return red, green, blue
