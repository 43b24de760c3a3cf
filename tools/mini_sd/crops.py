"""What the autoencoder trains on: crops of scenes, of photographs, and of abstract drawings with gradients and text.

All are H W 3, RGB, float32 in [0,1]; batches are b 3 H W.
"""

import string
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from tools.mini_sd.scene import PICTURE, render, sample_scene

SCENES, PHOTOGRAPHS = 0.5, 0.36  # shares of the mix; the rest is abstract
SWAPPED = 0.4  # share of crops whose red, green and blue change places, so that no hue is rare
CROPS_OF_A_PICTURE = 2  # of a drawn one: drawing costs more than cutting
LETTERS = np.array(list(string.ascii_letters + string.digits + ".,!?&-"))


def crops(rng: np.random.Generator, photographs: Sequence[np.ndarray], count: int, side: int) -> Tensor:
    """Random crops of the mix: count 3 side side."""
    batch: list[np.ndarray] = []
    while len(batch) < count:
        kind = rng.random()
        if kind < SCENES:
            picture = render(sample_scene(rng)).picture
            batch += [cut(picture, side, rng) for _ in range(CROPS_OF_A_PICTURE)]
        elif kind < SCENES + PHOTOGRAPHS:
            batch += [photograph(photographs, side, rng) for _ in range(CROPS_OF_A_PICTURE)]
        else:
            picture = abstract(PICTURE, rng)
            batch += [cut(picture, side, rng) for _ in range(CROPS_OF_A_PICTURE)]
    return as_batch([swap_colours(crop, rng) for crop in batch[:count]])


def as_batch(pictures: Sequence[np.ndarray]) -> Tensor:
    """Pictures H W 3 as one tensor b 3 H W."""
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


def swap_colours(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Now and then the picture with its colours in another order."""
    return picture[..., rng.permutation(3)] if rng.random() < SWAPPED else picture


def cut(picture: np.ndarray, side: int, rng: np.random.Generator) -> np.ndarray:
    """A random square of a picture."""
    top, left = (int(rng.integers(0, length - side + 1)) for length in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def photograph(photographs: Sequence[np.ndarray], side: int, rng: np.random.Generator) -> np.ndarray:
    """A random square of a random photograph, perhaps mirrored, a little brighter or darker."""
    crop = cut(photographs[rng.integers(len(photographs))], side, rng).astype(np.float32) / 255
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    return crop ** np.float32(rng.uniform(0.8, 1.25))


def abstract(side: int, rng: np.random.Generator) -> np.ndarray:
    """A gradient between two colours, a few shapes in flat colours, now and then lines of text."""
    canvas = np.round(gradient(side, rng) * 255).astype(np.uint8)
    for _ in range(rng.integers(0, 7)):
        _draw_shape(canvas, rng)
    if rng.random() < 0.5:
        for _ in range(rng.integers(1, 9)):
            _draw_text(canvas, rng)
    return cv2.GaussianBlur(canvas, (3, 3), rng.uniform(0.3, 0.7)).astype(np.float32) / 255


def gradient(side: int, rng: np.random.Generator) -> np.ndarray:
    """A straight or a round gradient between two colours."""
    y, x = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j].astype(np.float32)
    if rng.random() < 0.6:
        angle = rng.uniform(0, 2 * np.pi)
        mix = np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5) + 0.5
    else:
        mix = np.hypot(x - rng.random(), y - rng.random())
    mix = np.clip(mix, 0, 1)[..., None].astype(np.float32)
    first, second = rng.random((2, 3), np.float32)
    return first * (1 - mix) + second * mix


def _draw_shape(canvas: np.ndarray, rng: np.random.Generator) -> None:
    side, colour = len(canvas), _colour(rng)
    centre = rng.integers(0, side, 2).tolist()
    kind = rng.integers(3)
    if kind == 0:
        axes = rng.integers(2, side // 3, 2).tolist()
        cv2.ellipse(canvas, centre, axes, rng.uniform(0, 180), 0, 360, colour, -1, cv2.LINE_AA)
    elif kind == 1:
        corners = np.array(centre) + rng.integers(-side // 3, side // 3, (int(rng.integers(3, 7)), 2))
        cv2.fillPoly(canvas, [corners.astype(np.int32)], colour, cv2.LINE_AA)
    else:
        cv2.line(canvas, centre, rng.integers(0, side, 2).tolist(), colour, int(rng.integers(1, 9)), cv2.LINE_AA)


def _draw_text(canvas: np.ndarray, rng: np.random.Generator) -> None:
    text = "".join(rng.choice(LETTERS, rng.integers(2, 14)))
    place = rng.integers(0, len(canvas), 2).tolist()
    font, size, stroke = int(rng.integers(0, 8)), rng.uniform(0.4, 2.0), int(rng.integers(1, 4))
    cv2.putText(canvas, text, place, font, size, _colour(rng), stroke, cv2.LINE_AA)


def _colour(rng: np.random.Generator) -> list[int]:
    return rng.integers(0, 256, 3).tolist()
