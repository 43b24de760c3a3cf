"""A small clip with a disc that moves over a background, and what a perfect edit of it looks like."""

import cv2
import numpy as np
import pytest

SIDE, FRAMES, STEP = 96, 5, 4


def texture(seed: int, low: int, high: int) -> np.ndarray:
    """A smooth coloured pattern, SIDE+64 on each side, uint8."""
    noise = np.random.default_rng(seed).random((SIDE + 64, SIDE + 64, 3)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), 2)
    soft = (soft - soft.min()) / (soft.max() - soft.min())
    return (low + (high - low) * soft).astype(np.uint8)


BACKGROUND, DISC, SQUARE = texture(0, 0, 100), texture(1, 150, 250), texture(2, 160, 255)


def draw(frame: int, shape: str, pan: int = 0) -> np.ndarray:
    """A frame, SIDE SIDE 3: the object moves by STEP pixels to the right per frame, the camera by `pan`."""
    image = BACKGROUND[32 : 32 + SIDE, pan * frame : pan * frame + SIDE].copy()
    middle = 30 + STEP * frame, 50
    mask = np.zeros((SIDE, SIDE), np.uint8)
    if shape == "disc":
        cv2.circle(mask, middle, 14, 255, -1)
    elif shape == "square":
        cv2.rectangle(mask, (middle[0] - 17, middle[1] - 11), (middle[0] + 17, middle[1] + 11), 255, -1)
    fill = np.roll(DISC if shape == "disc" else SQUARE, STEP * frame, axis=1)[:SIDE, :SIDE]
    return np.where(mask[..., None] > 0, fill, image)


@pytest.fixture(scope="session")
def discs() -> np.ndarray:
    """The clip, f H W 3 uint8."""
    return np.stack([draw(frame, "disc") for frame in range(FRAMES)])


@pytest.fixture(scope="session")
def squares() -> np.ndarray:
    """The same with a square in place of the disc."""
    return np.stack([draw(frame, "square") for frame in range(FRAMES)])
