"""Colours that a standard screen cannot show, brought to what it can: PQ, HLG, BT.2020, Display P3 to BT.709.

Pure functions of arrays. Light is counted in units of a standard screen's white, 203 cd/m² (ITU-R BT.2408). What
is darker than half of that stays as it is; what is brighter is rolled off so that 1000 cd/m² becomes white.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

Light = NDArray[np.float32]

_WHITE = 203.0
_PEAK = 1000.0
_KNEE = 0.5
_SCREEN_GAMMA = 2.4

_PQ, _HLG = 16, 18
_BT2020, _DISPLAY_P3 = 9, 12

_TO_BT709 = {
    _BT2020: ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    _DISPLAY_P3: ((1.2249, -0.2249, 0.0), (-0.0420, 1.0420, 0.0), (-0.0197, -0.0786, 1.0983)),
}
"""ITU-R BT.2087 and SMPTE EG 432-1: linear RGB of these primaries to linear RGB of BT.709's."""

_BT2020_LUMINANCE = np.array((0.2627, 0.6780, 0.0593), dtype=np.float32)


def needed(transfer: int, primaries: int) -> bool:
    """Whether a picture with these tags (numbers of ITU-T H.273) has to go through `to_standard`."""
    return transfer in (_PQ, _HLG) or primaries in _TO_BT709


def is_high_dynamic_range(transfer: int) -> bool:
    """Whether this tag says PQ or HLG."""
    return transfer in (_PQ, _HLG)


def to_standard(picture: NDArray[np.uint16], transfer: int, primaries: int) -> NDArray[np.uint8]:
    """A picture as a standard screen shows it.

    Args:
        picture: (H W 3), RGB, full range of 16 bits.
        transfer, primaries: its tags, numbers of ITU-T H.273.

    Returns:
        (H W 3), RGB, full range of 8 bits, BT.709.
    """
    light = _decode_table(transfer)[picture]
    if transfer == _HLG:  # the system's gamma for a screen of 1000 cd/m², ITU-R BT.2100
        light *= (_PEAK / _WHITE) * np.power(light @ _BT2020_LUMINANCE, 0.2)[..., None]
    if primaries in _TO_BT709:
        light = light @ np.array(_TO_BT709[primaries], dtype=np.float32).T
    light = np.maximum(light, 0)
    if is_high_dynamic_range(transfer):
        light = _rolled_off(light)
    code = np.power(np.minimum(light, 1), 1 / _SCREEN_GAMMA)
    return np.rint(code * 255).astype(np.uint8)


def _rolled_off(light: Light) -> Light:
    """Highlights below 1; all three channels by the same factor, so that the hue stays."""
    brightest = light.max(axis=-1, keepdims=True)
    above = np.maximum(brightest - _KNEE, 0) / (1 - _KNEE)
    most = (_PEAK / _WHITE - _KNEE) / (1 - _KNEE)
    rolled = _KNEE + (1 - _KNEE) * above * (1 + above / most**2) / (1 + above)
    return np.where(brightest > _KNEE, light * (rolled / np.maximum(brightest, _KNEE)), light)


@cache
def _decode_table(transfer: int) -> Light:
    """Light for each of the 65536 codes."""
    curves: dict[int, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {_PQ: _pq, _HLG: _hlg}
    code = np.linspace(0, 1, 2**16)
    return curves.get(transfer, _power)(code).astype(np.float32)


def _power(code: NDArray[np.float64]) -> NDArray[np.float64]:
    return code**_SCREEN_GAMMA


def _pq(code: NDArray[np.float64]) -> NDArray[np.float64]:
    """The EOTF of SMPTE ST 2084."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = code ** (1 / m2)
    return 10_000 / _WHITE * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)


def _hlg(code: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse OETF of ITU-R BT.2100: the light of the scene, 1 at most."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
