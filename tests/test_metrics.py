"""Measures against closed forms, against scikit-image, and on clips whose motion is known."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from tests.correspondence.test_flow import texture
from tokenflow.metrics import WarpError, psnr, ssim, warp_error
from tools.mini_sd.build_clips import CLIPS

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


def test_warp_error_by_hand() -> None:
    """Two pixels in a row; the flow sends the left one to the right, where it meets (0.5, 0.5, 0.5)."""
    first = np.array([[[0.0, 0.25, 1.0], [0.0, 0.0, 0.0]]], np.float32)
    second = np.array([[[1.0, 1.0, 1.0], [0.5, 0.5, 0.5]]], np.float32)
    flow = np.array([[[1.0, 0.0], [0.0, 0.0]]], np.float32)
    left = (0.5**2 + 0.25**2 + 0.5**2) / 3
    right = 0.5**2
    everywhere = np.ones((1, 2), bool)
    assert warp_error(first, second, flow, everywhere) == pytest.approx((left + right) / 2, rel=1e-6)
    assert warp_error(first, second, flow, np.array([[True, False]])) == pytest.approx(left, rel=1e-6)
    assert warp_error(first, second, flow, ~everywhere) == 0


def test_a_clip_read_along_its_exact_flow_has_no_warp_error() -> None:
    ground = texture(40, 60).astype(np.float32) / 255
    first, second = ground[4:36, 10:50], ground[2:34, 13:53]  # 3 to the left, 2 down
    flow = np.full((32, 40, 2), (-3, 2), np.float32)
    inside = np.zeros((32, 40), bool)
    inside[:-2, 3:] = True
    assert warp_error(first, second, flow, inside) == 0
    assert warp_error(first, second, 0 * flow, inside) > 1e-3


@pytest.mark.parametrize("name", ["dog_walk", "car_drive"])
def test_a_drawn_clip_read_along_its_exact_flow_has_next_to_no_warp_error(name: str) -> None:
    clip = CLIPS[name]
    first, second = (clip.render(frame).picture for frame in (2, 3))
    visible = ~clip.occluded(2, 3)
    exact = warp_error(first, second, clip.flow(2, 3), visible)
    still = warp_error(first, second, np.zeros_like(clip.flow(2, 3)), visible)
    # Textures are looked up between pixels: measured 6e-6 and 2.9e-5, of 1.4e-3 and 3.0e-3 without the flow.
    assert exact < 5e-5
    assert exact < 0.02 * still


def errors(source: list[np.ndarray], /, **edits: list[np.ndarray]) -> dict[str, list[float]]:
    measured = WarpError()
    for frame, picture in enumerate(source):
        measured.add(picture, {name: edit[frame] for name, edit in edits.items()})
    return measured.errors()


def panning(frames: int = 4, step: int = 4) -> list[np.ndarray]:
    ground = texture(64, 96 + step * frames)
    return [ground[:, step * frame : step * frame + 96] for frame in range(frames)]


def flickering(clip: list[np.ndarray], levels: int) -> list[np.ndarray]:
    """Every other frame brighter, within 8 bits."""
    dimmed = [(40 + picture * 0.6).astype(np.uint8) for picture in clip]
    return [picture + np.uint8(levels * (frame % 2)) for frame, picture in enumerate(dimmed)]


def test_a_still_clip_has_no_warp_error() -> None:
    still = [texture(64, 96)] * 4
    assert errors(still, source=still) == {"source": [0.0] * 3}


def test_a_moving_clip_has_the_warp_error_that_flow_leaves() -> None:
    clip = panning()
    # Measured: 2e-6 at most, half a grey level; standing still it would be 1e-2.
    assert max(errors(clip, source=clip)["source"]) < 1e-5


def test_flicker_over_a_still_clip_is_its_square() -> None:
    still = [texture(64, 96)] * 4
    assert errors(still, edit=flickering(still, 10))["edit"] == pytest.approx([(10 / 255) ** 2] * 3, rel=1e-4)


def test_warp_error_grows_with_flicker_over_a_moving_clip() -> None:
    clip = panning()
    edits = {str(levels): flickering(clip, levels) for levels in (0, 4, 12, 30)}
    means = [np.mean(each) for each in errors(clip, **edits).values()]
    assert means == sorted(means)
    assert means[1] == pytest.approx((4 / 255) ** 2, rel=0.1)
    assert means[3] == pytest.approx((30 / 255) ** 2, rel=0.1)


def test_an_edit_that_does_not_move_with_its_source_has_a_larger_error_than_one_that_does() -> None:
    clip = panning()
    measured = errors(clip, moves=[255 - picture for picture in clip], stays=[clip[0]] * len(clip))
    assert np.mean(measured["moves"]) < 0.01 * np.mean(measured["stays"])


def test_there_is_an_error_for_each_pair_of_neighbours_and_none_for_one_frame() -> None:
    clip = panning()
    assert [len(each) for each in errors(clip, a=clip, b=clip).values()] == [3, 3]
    assert errors(clip[:1], a=clip) == {}
