"""Clips of the tiny model, inverted until sampling is the exact inverse."""

import numpy as np
import pytest

from tests.tiny import inverted_clip, moving_square
from tokenflow.modes.source import InvertedClip

STEPS = 4
ITERATIONS = 20


@pytest.fixture(scope="package")
def moving() -> InvertedClip:
    return inverted_clip(moving_square(11), STEPS, iterations=ITERATIONS)


@pytest.fixture(scope="package")
def still() -> InvertedClip:
    return inverted_clip(np.repeat(moving_square(1), 7, axis=0), STEPS, iterations=ITERATIONS)
