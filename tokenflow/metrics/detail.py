"""How much fine structure an image has: shows whether steadiness was bought with blur."""

import numpy as np


def gradient_energy(image: np.ndarray) -> float:
    """Mean squared difference of neighbouring pixels, along rows plus along columns, of one image or several.

    Blur lowers it and noise raises it. It depends on the content: compare it with that of an image which should have
    as much detail.

    Args:
        image: … H W 3 in [0, 1].
    """
    down, across = np.diff(image, axis=-3), np.diff(image, axis=-2)  # … H-1 W 3, … H W-1 3
    return float(np.square(down).mean() + np.square(across).mean())
