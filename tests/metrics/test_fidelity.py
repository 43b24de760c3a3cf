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
IMAGES = torch.rand(3, 3, 40, 48, generator=GENERATOR)
NOISY = (IMAGES + 0.2 * torch.randn(IMAGES.shape, generator=GENERATOR)).clamp(0, 1)


def grey(value: float, height: int = 16, width: int = 16) -> torch.Tensor:
    return torch.full((1, 3, height, width), value)


def channels_last(image: torch.Tensor) -> np.ndarray:
    """An image 3 H W as H W 3 float64, as scikit-image takes it."""
    return image.permute(1, 2, 0).double().numpy()


@given(st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=25)
def test_psnr_of_images_a_constant_apart(one: float, other: float) -> None:
    if abs(one - other) < 1e-3:
        return
    expected = -20 * math.log10(abs(one - other))
    # Float32 subtracts to 6e-8, which is 6e-5 of the smallest difference here, or 5e-4 dB.
    assert psnr(grey(one), grey(other)).item() == pytest.approx(expected, abs=1e-3)


def test_psnr_of_equal_images_is_infinite() -> None:
    assert psnr(IMAGES, IMAGES).tolist() == [math.inf] * 3


def test_psnr_matches_scikit_image() -> None:
    expected = [
        peak_signal_noise_ratio(channels_last(one), channels_last(other), data_range=1)
        for one, other in zip(IMAGES, NOISY, strict=True)
    ]
    assert psnr(NOISY, IMAGES).tolist() == pytest.approx(expected, rel=1e-5)


def test_ssim_of_equal_images_is_1() -> None:
    assert ssim(IMAGES, IMAGES).tolist() == pytest.approx([1, 1, 1], abs=1e-6)


@pytest.mark.parametrize(("one", "other"), [(0.2, 0.6), (0.0, 1.0), (0.5, 0.5)])
def test_ssim_of_single_coloured_images_compares_their_means(one: float, other: float) -> None:
    constant = 0.01**2  # C₁ of Wang et al., equation 6
    expected = (2 * one * other + constant) / (one**2 + other**2 + constant)
    # Variances are differences of float32 squares here, beside C₂ = 9e-4.
    assert ssim(grey(one), grey(other)).item() == pytest.approx(expected, abs=1e-3)


def test_ssim_matches_scikit_image() -> None:
    # Framed in one grey, because the two libraries pad at the border differently.
    framed, noisy = (F.pad(images, (12,) * 4, value=0.5) for images in (IMAGES, NOISY))
    expected = []
    for one, other in zip(framed, noisy, strict=True):
        _, similarity = structural_similarity(
            channels_last(one),
            channels_last(other),
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
    halfway = (IMAGES + NOISY) / 2
    assert torch.all(ssim(NOISY, IMAGES) < ssim(halfway, IMAGES))
    assert torch.all(ssim(halfway, IMAGES) < 1)
