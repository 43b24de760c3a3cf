"""A background under a light, painted on a canvas that is wider than the picture.

The canvas lies in world units (1 = the height of a picture at zoom 1; x to the right, y down, y = 0 the horizon),
so that a camera that pans or zooms moves everything on it by one affine map.
"""

from functools import lru_cache

import numpy as np

from tools.mini_sd.grounds import paint_ground
from tools.mini_sd.painting import HALF_WIDTH, RESOLUTION, TOP, Painting
from tools.mini_sd.skies import paint_sky
from tools.mini_sd.words import BACKGROUNDS, LIGHTS

VARIANTS = 2**20  # differently painted canvases of each background
SHADED = ("3d", "cartoon")
OUTLINED = ("cartoon",)

CANVAS_TO_WORLD = np.array(
    [[1 / RESOLUTION, 0, 0.5 / RESOLUTION - HALF_WIDTH], [0, 1 / RESOLUTION, 0.5 / RESOLUTION + TOP], [0, 0, 1]]
)


@lru_cache(maxsize=32)
def canvas(background: str, light: str, style: str, variant: int) -> np.ndarray:
    """HEIGHT WIDTH 3, RGB, 8 bits. The same arguments give the same canvas; variant picks one of VARIANTS.

    Shapes are those of background and variant alone: light and style change how they look, not where they are.
    """
    seed = BACKGROUNDS.index(background), variant % VARIANTS
    painting = Painting(light, shaded=style in SHADED, outlined=style in OUTLINED)
    clouds, ground = (np.random.default_rng((*seed, layer)) for layer in range(2))
    paint_sky(painting, clouds, np.random.default_rng((*seed, 2, LIGHTS.index(light))))
    paint_ground(painting, background, ground)
    return painting.picture
