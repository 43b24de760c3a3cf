"""Conversion of HDR (PQ, HLG) and wide gamuts (BT.2020, Display P3) to 8-bit BT.709.

Linear light is in units of SDR reference white, 203 cd/m² (ITU-R BT.2408). HDR below half of that is unchanged;
brighter light is rolled off so that 1000 cd/m² becomes white.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from numpy.typing import NDArray

LinearLight = NDArray[np.float32]

_WHITE = 203.0
_PEAK = 1000.0
"""cd/m²: SDR reference white, and the luminance that becomes white."""

_KNEE = 0.5
"""Linear light from which highlights are rolled off."""

_DISPLAY_GAMMA = 2.4
"""ITU-R BT.1886."""

_PQ, _HLG = 16, 18
_BT2020, _DISPLAY_P3 = 9, 12
"""Transfer characteristics and colour primaries of ITU-T H.273."""

_TO_BT709 = {
    _BT2020: ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    _DISPLAY_P3: ((1.2249, -0.2249, 0.0), (-0.0420, 1.0420, 0.0), (-0.0197, -0.0786, 1.0983)),
}
"""Linear RGB of these primaries to linear RGB of BT.709; ITU-R BT.2087 and SMPTE EG 432-1."""

_BT2020_LUMINANCE = np.array((0.2627, 0.6780, 0.0593), dtype=np.float32)


def needs_conversion(transfer: int, primaries: int) -> bool:
    """Whether a frame with these tags (numbers of ITU-T H.273) has to go through `to_bt709`."""
    return _is_hdr(transfer) or primaries in _TO_BT709


def to_bt709(image: NDArray[np.uint16], transfer: int, primaries: int) -> NDArray[np.uint8]:
    """Convert an image to BT.709 for an SDR display.

    Args:
        image: (H W 3), RGB, full range of 16 bits.
        transfer, primaries: its tags, numbers of ITU-T H.273.

    Returns:
        (H W 3), RGB, full range of 8 bits.
    """
    light = _linear_light_table(transfer)[image]  # H W 3
    if transfer == _HLG:  # the OOTF of ITU-R BT.2100 for a display of 1000 cd/m²: luminance to the power of 0.2
        light *= (_PEAK / _WHITE) * np.power(light @ _BT2020_LUMINANCE, 0.2)[..., None]  # H W 3 by H W 1
    if primaries in _TO_BT709:
        light = light @ np.array(_TO_BT709[primaries], dtype=np.float32).T
    light = np.maximum(light, 0)
    if _is_hdr(transfer):
        light = _roll_off_highlights(light)
    code = np.power(np.minimum(light, 1), 1 / _DISPLAY_GAMMA)
    return np.rint(code * 255).astype(np.uint8)


def _is_hdr(transfer: int) -> bool:
    return transfer in (_PQ, _HLG)


def _roll_off_highlights(light: LinearLight) -> LinearLight:
    """Compress light (H W 3) above the knee to below 1, by one factor for all channels, which preserves the hue."""
    brightest = light.max(axis=-1, keepdims=True)  # H W 1
    above = np.maximum(brightest - _KNEE, 0) / (1 - _KNEE)
    peak = (_PEAK / _WHITE - _KNEE) / (1 - _KNEE)
    # Reinhard's extended operator, which takes 0 to 0 and the peak to 1
    compressed = _KNEE + (1 - _KNEE) * above * (1 + above / peak**2) / (1 + above)
    return np.where(brightest > _KNEE, light * (compressed / np.maximum(brightest, _KNEE)), light)


@cache
def _linear_light_table(transfer: int) -> LinearLight:
    """(65536,): linear light of each 16-bit code value."""
    curves: dict[int, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {_PQ: _pq, _HLG: _hlg}
    code = np.linspace(0, 1, 2**16)
    return curves.get(transfer, _power)(code).astype(np.float32)


def _power(code: NDArray[np.float64]) -> NDArray[np.float64]:
    return code**_DISPLAY_GAMMA


def _pq(code: NDArray[np.float64]) -> NDArray[np.float64]:
    """The EOTF of SMPTE ST 2084."""
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = code ** (1 / m2)
    return 10_000 / _WHITE * (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)


def _hlg(code: NDArray[np.float64]) -> NDArray[np.float64]:
    """The inverse OETF of ITU-R BT.2100, to scene light in [0, 1]."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
