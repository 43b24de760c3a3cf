"""Fidelity against closed forms and scikit-image."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tokenflow.metrics import psnr, ssim

GENERATOR = torch.Generator().manual_seed(0)
PICTURES = torch.rand(3, 3, 40, 48, generator=GENERATOR)
NOISY = (PICTURES + 0.2 * torch.randn(PICTURES.shape, generator=GENERATOR)).clamp(0, 1)


def grey(value: float, height: int = 16, width: int = 16) -> torch.Tensor:
    return torch.full((1, 3, height, width), value)


def last(picture: torch.Tensor) -> np.ndarray:
    """A picture 3 H W as scikit-image takes it, in double precision."""
    return picture.permute(1, 2, 0).double().numpy()


@given(st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=25, deadline=None)
def test_psnr_of_pictures_a_constant_apart(one: float, other: float) -> None:
    if abs(one - other) < 1e-3:
        return
    expected = -20 * math.log10(abs(one - other))
    # Float32 subtracts to 6e-8, which is 6e-5 of the smallest difference here, or 5e-4 dB.
    assert psnr(grey(one), grey(other)).item() == pytest.approx(expected, abs=1e-3)


def test_psnr_of_equal_pictures_is_infinite() -> None:
    assert psnr(PICTURES, PICTURES).tolist() == [math.inf] * 3


def test_psnr_is_scikit_images_picture_by_picture() -> None:
    expected = [
        peak_signal_noise_ratio(last(one), last(other), data_range=1)
        for one, other in zip(PICTURES, NOISY, strict=True)
    ]
    assert psnr(NOISY, PICTURES).tolist() == pytest.approx(expected, rel=1e-5)


def test_ssim_of_equal_pictures_is_1() -> None:
    assert ssim(PICTURES, PICTURES).tolist() == pytest.approx([1, 1, 1], abs=1e-6)


@pytest.mark.parametrize(("one", "other"), [(0.2, 0.6), (0.0, 1.0), (0.5, 0.5)])
def test_ssim_of_pictures_of_one_colour_compares_their_means_alone(one: float, other: float) -> None:
    constant = 0.01**2  # C₁ of Wang et al., equation 6
    expected = (2 * one * other + constant) / (one**2 + other**2 + constant)
    # Variances are differences of float32 squares here, beside C₂ = 9e-4.
    assert ssim(grey(one), grey(other)).item() == pytest.approx(expected, abs=1e-3)


def test_ssim_is_scikit_images_picture_by_picture() -> None:
    # In a frame of one grey, since the two continue pictures beyond their borders in different ways.
    framed, noisy = (F.pad(pictures, (12,) * 4, value=0.5) for pictures in (PICTURES, NOISY))
    expected = []
    for one, other in zip(framed, noisy, strict=True):
        _, similarity = structural_similarity(
            last(one),
            last(other),
            channel_axis=2,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            full=True,
        )
        expected.append(similarity.mean())
    # Float32 against double, through differences of squares.
    assert ssim(noisy, framed).tolist() == pytest.approx(expected, abs=1e-4)


def test_ssim_falls_with_noise() -> None:
    halfway = (PICTURES + NOISY) / 2
    assert torch.all(ssim(NOISY, PICTURES) < ssim(halfway, PICTURES))
    assert torch.all(ssim(halfway, PICTURES) < 1)
