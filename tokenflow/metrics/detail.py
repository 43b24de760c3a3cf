"""How much fine structure a picture has, so that blur cannot pass for steadiness."""

import numpy as np


def gradient_energy(picture: np.ndarray) -> float:
    """Mean squared difference of neighbouring pixels, along rows and along columns, of one picture or several.

    Fine structure is what blur takes away first. The figure says nothing alone: compare it with that of a picture which
    should have as much. Noise raises it too.

    Args:
        picture: … H W 3 in [0, 1].
    """
    down, across = np.diff(picture, axis=-3), np.diff(picture, axis=-2)
    return float(np.square(down).mean() + np.square(across).mean())
