import torch
from torch import Tensor

from tokenflow.models.inpainting import HIDDEN, is_inpainting, nothing_shown, surroundings


def encode(frames: Tensor) -> Tensor:
    """Every second pixel, and a fourth channel."""
    return torch.cat([frames, frames[:, :1]], dim=1)[..., ::2, ::2]


def test_the_mask_comes_first_and_its_pixels_are_hidden() -> None:
    frames = torch.rand(2, 3, 4, 6)
    inside = torch.zeros(2, 1, 2, 3)
    inside[0, 0, 1, 2] = 1
    shown = surroundings(encode, frames, inside)
    assert torch.equal(shown[:, :1], inside)
    assert torch.equal(shown[1, 1:4], frames[1, :, ::2, ::2])
    assert (shown[0, 1:, 1, 2] == HIDDEN).all()
    visible = inside[0, 0] == 0
    assert torch.equal(shown[0, 1:4, visible], frames[0, :, ::2, ::2][:, visible])


def test_every_pixel_of_a_painted_latent_is_hidden() -> None:
    inside = torch.tensor([[[[0.0, 1.0]]]])
    seen = []
    surroundings(lambda frames: seen.append(frames) or encode(frames), torch.zeros(1, 3, 2, 4), inside)
    assert seen[0][0, 0].tolist() == [[0, 0, HIDDEN, HIDDEN]] * 2


def test_where_nothing_is_shown_all_is_painted() -> None:
    shown = nothing_shown(encode, 2, 3, pixels_per_latent=2)
    assert shown.shape == (1, 5, 2, 3)
    assert (shown[:, 0] == 1).all()
    assert (shown[:, 1:] == HIDDEN).all()


def test_inpainting_networks_are_told_by_their_channels() -> None:
    assert is_inpainting(9, 4)
    assert not any(is_inpainting(channels, 4) for channels in (4, 5, 7, 8))
