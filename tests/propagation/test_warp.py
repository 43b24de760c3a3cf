import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenflow.correspondence.base import Map, identity
from tokenflow.propagation.warp import OCCLUDED_BELOW, Warp

KEYFRAMES = (1, 4)
CPU = torch.device("cpu")


class Moved:
    """Displacements at random, as large as the grid, and confidences at random, the same at each call."""

    def __init__(self, seed: int, confidence: float | None = None) -> None:
        self._seed = seed
        self._confidence = confidence

    def maps(self, frame: int, keyframe: int, height: int, width: int) -> Map:
        if frame == keyframe:
            return identity(height, width)
        generator = torch.Generator().manual_seed(1000 * self._seed + 10 * frame + keyframe)
        positions, confidence = identity(height, width)
        moved = positions + torch.randn(positions.shape, generator=generator) * torch.tensor([width, height]) / 2
        if self._confidence is not None:
            return moved, torch.full_like(confidence, self._confidence)
        return moved, torch.rand(len(confidence), generator=generator)


def sampled(tokens: Tensor, positions: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens n c at positions (n 2), read by torch: n c."""
    height, width = grid
    image = tokens.T.unflatten(1, grid)[None]
    normalised = (2 * positions + 1) / torch.tensor([width, height]) - 1
    values = F.grid_sample(image, normalised[None, None], mode="bicubic", padding_mode="border", align_corners=False)
    return values[0, :, 0].T


@settings(max_examples=25)
@given(st.integers(0, 999), st.integers(1, 9), st.integers(1, 9))
def test_a_frame_gets_what_torchs_bicubic_sampling_reads_in_both_keyframes_blended(
    seed: int, height: int, width: int
) -> None:
    grid, maps = (height, width), Moved(seed)
    tokens = torch.randn(2, 2, height * width, 3, generator=torch.Generator().manual_seed(seed))
    warp = Warp([2], KEYFRAMES, maps, {grid}, CPU)
    warped = warp.warp_tokens(tokens, grid)[:, 0]
    (before, sure_before), (after, sure_after) = (maps.maps(2, keyframe, *grid) for keyframe in KEYFRAMES)
    nearer, farther = 2 / 3, 1 / 3  # frame 2 is one frame from keyframe 1 and two from keyframe 4
    weights = torch.stack([nearer * sure_before, farther * sure_after])
    weights = weights / weights.sum(0)
    weights[:, torch.maximum(sure_before, sure_after) < OCCLUDED_BELOW] = torch.tensor([[nearer], [farther]])
    for branch in range(2):
        sides = zip(tokens[branch], (before, after), weights, strict=True)
        expected = sum(weight[:, None] * sampled(values, where, grid) for values, where, weight in sides)
        torch.testing.assert_close(warped[branch], expected, rtol=0, atol=1e-4)  # float32, positions of tens of tokens


def test_maps_are_warped_as_tokens_are() -> None:
    grid = (4, 5)
    maps = torch.randn(2, 3, *grid, generator=torch.Generator().manual_seed(0))
    warp = Warp([2, 3], KEYFRAMES, Moved(0), {grid}, CPU)
    tokens = warp.warp_tokens(maps.flatten(2).transpose(1, 2)[None], grid)[0]
    assert torch.equal(warp.warp_maps(maps), tokens.transpose(1, 2).unflatten(2, grid))


def test_what_is_the_same_everywhere_stays_what_it_is() -> None:
    """Shares add up to 1, wherever they lie."""
    grid = (6, 7)
    warp = Warp([0, 2, 3, 6], KEYFRAMES, Moved(1), {grid}, CPU)
    warped = warp.warp_tokens(torch.full((1, 2, 42, 1), 3.0), grid)
    torch.testing.assert_close(warped, torch.full((1, 4, 42, 1), 3.0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_warped_in_single_and_given_back_as_it_came(dtype: torch.dtype) -> None:
    grid = (6, 7)
    warp = Warp([2], KEYFRAMES, Moved(2), {grid}, CPU)
    tokens = torch.randn(1, 2, 42, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    warped = warp.warp_tokens(tokens, grid)
    assert warped.dtype == dtype
    assert torch.equal(warped, warp.warp_tokens(tokens.float(), grid).to(dtype))


def test_lost_tokens_are_listed_frame_by_frame() -> None:
    class HalfKnown(Moved):
        """Of frame 2 nothing is lost, of frame 3 the first three tokens, of frame 0 the first one."""

        def maps(self, frame: int, keyframe: int, height: int, width: int) -> Map:
            positions, confidence = super().maps(frame, keyframe, height, width)
            confidence[: {2: 0, 3: 3, 0: 1}[frame]] = 0
            return positions, confidence

    occluded = Warp([2, 3, 0], KEYFRAMES, HalfKnown(0, 1.0), {(2, 3)}, CPU).grids[2, 3].occluded
    assert occluded is not None
    assert occluded.frames.tolist() == [1, 2]
    assert [tokens[real].tolist() for tokens, real in zip(occluded.tokens, occluded.real, strict=True)] == [
        [0, 1, 2],
        [0],
    ]
    assert Warp([2], KEYFRAMES, HalfKnown(0, 1.0), {(2, 3)}, CPU).grids[2, 3].occluded is None
