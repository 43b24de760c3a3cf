import numpy as np
import pytest
import torch

from tools.mini_sd.networks import COMPRESSION, LATENT_CHANNELS, build_autoencoder
from tools.mini_sd.reconstruction import (
    autoencoder_figures,
    decode,
    encode,
    filmed,
    held_out_drawings,
    psnr,
    scenes,
    shift,
)
from tools.mini_sd.scene import PICTURE


@pytest.mark.parametrize("pixels", [0, 3, 4, 7])
def test_a_shift_moves_latents_as_far_as_the_picture(pixels):
    """A slope's mean over eight pixels is a latent; moved, it is the mean of the moved slope."""
    picture = (torch.arange(64.0) + 2 * torch.arange(64.0)[:, None]).expand(1, 3, 64, 64) / 192
    latents, target = shift(torch.nn.functional.avg_pool2d(picture, 8), picture, pixels, 7 - pixels)
    assert target.shape == (1, 3, 56, 56)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(target, 8), latents)


def test_psnr_of_a_known_error():
    assert psnr(torch.full((1, 3, 8, 8), 0.6), torch.full((1, 3, 8, 8), 0.5)).item() == pytest.approx(20, abs=1e-3)


def test_every_kind_of_picture_is_of_the_models_size():
    for pictures in (scenes(np.random.default_rng(0), 2), held_out_drawings(np.random.default_rng(0), 2), filmed(2)):
        assert pictures.shape == (2, 3, PICTURE, PICTURE)
        assert pictures.min() >= 0
        assert pictures.max() <= 1
        assert pictures.std() > 0.05


def test_frames_of_the_film_are_spread_over_it():
    first, *_, last = filmed(5)
    assert (first - last).abs().mean() > 0.01


def test_an_untrained_autoencoder_has_every_figure_and_none_is_good():
    network = build_autoencoder().eval()
    latents = encode(network, scenes(np.random.default_rng(0), 1))
    assert latents.shape == (1, LATENT_CHANNELS, PICTURE // COMPRESSION, PICTURE // COMPRESSION)
    assert decode(network, latents).shape == (1, 3, PICTURE, PICTURE)
    figures = autoencoder_figures(network, 1)
    assert len(figures) == 5
    assert all(0 < value < 20 for value in figures.values())
