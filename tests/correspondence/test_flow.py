"""Flow's maps against known motion: shifted textures to the digit, the project's drawn clips to what was measured."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tokenflow.correspondence import flow as flow_module
from tokenflow.correspondence.base import identity
from tokenflow.correspondence.flow import MIN_RESOLUTION, FlowCorrespondence, chain_flows, confidence, warp_image
from tokenflow.propagation.warp import OCCLUDED_BELOW
from tools.mini_sd.build_clips import CLIPS
from tools.mini_sd.clip import Clip, Motion

HEIGHT, WIDTH, TOKEN = 128, 160, 4
ROWS, COLUMNS = HEIGHT // TOKEN, WIDTH // TOKEN
MARGIN = 32
ORDERS = pytest.mark.parametrize(("frame", "keyframe"), [(0, 1), (1, 0)])
SHIFTS = pytest.mark.parametrize("shift", [(1, 0), (4, 0), (0, 4), (8, -4)], ids=str)
"""In pixels, x and y. Larger ones need larger shapes than this texture has for flow to find them."""


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth random greys, H W 3 uint8."""
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    grey = 255 * (smooth - smooth.min()) / np.ptp(smooth)
    return np.repeat(grey.astype(np.uint8)[..., None], 3, axis=2)


def shifted(shift: tuple[int, int]) -> np.ndarray:
    """Two frames, 2 H W 3: what is at a pixel of the first is `shift` pixels further in the second."""
    ground = texture(HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN)
    dx, dy = shift
    windows = [(MARGIN, MARGIN), (MARGIN - dy, MARGIN - dx)]
    return np.stack([ground[top : top + HEIGHT, left : left + WIDTH] for top, left in windows])


def expected(shift: tuple[int, int], frame: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Positions n 2 that a shift leads to, and which of them lie on the grid."""
    sign = 1 if frame == 0 else -1
    positions = identity(rows, columns)[0] + sign * torch.tensor(shift) * torch.tensor([columns / WIDTH, rows / HEIGHT])
    limits = torch.tensor([columns - 1, rows - 1])
    return positions, ((positions >= 0) & (positions <= limits)).all(dim=1)


@pytest.mark.parametrize("grid", [(ROWS, COLUMNS), (ROWS // 2, COLUMNS // 2), (ROWS // 4, COLUMNS // 4), (11, 13)])
@ORDERS
@SHIFTS
def test_a_shifted_picture_gives_its_shift_on_every_grid_in_both_orders(
    shift: tuple[int, int], frame: int, keyframe: int, grid: tuple[int, int]
) -> None:
    positions, _ = FlowCorrespondence(shifted(shift), ROWS, COLUMNS).maps(frame, keyframe, *grid)
    truth, visible = expected(shift, frame, *grid)
    # Measured: 0.005 tokens at most, of shifts of 0.06 to 2.2 tokens.
    assert (positions - truth).norm(dim=1)[visible].mean() < 0.01


@ORDERS
@pytest.mark.parametrize("shift", [(4, 0), (0, 4), (8, -4)], ids=str)
def test_what_stays_in_the_picture_is_sure_and_what_leaves_it_is_not(
    shift: tuple[int, int], frame: int, keyframe: int
) -> None:
    _, sure = FlowCorrespondence(shifted(shift), ROWS, COLUMNS).maps(frame, keyframe, ROWS, COLUMNS)
    _, visible = expected(shift, frame, ROWS, COLUMNS)
    assert sure[visible].mean() > 0.99
    # Measured: 0.019 at most; a few tokens at the border are led back inside by smoothness, the surest by 0.25.
    assert sure[~visible].mean() < 0.03


def patch_before_ground(shift: int = 8) -> tuple[np.ndarray, tuple[slice, slice], tuple[slice, slice]]:
    """A textured patch that moves to the right before a still ground; which tokens it covers and which it uncovers."""
    frames = np.stack([texture(HEIGHT, WIDTH)] * 2)
    patch = texture(64, 64, seed=1)
    for picture, left in zip(frames, (40, 40 + shift), strict=True):
        picture[32:96, left : left + 64] = patch
    rows = slice(32 // TOKEN, 96 // TOKEN)
    edge, step = (40 + 64) // TOKEN, shift // TOKEN
    return frames, (rows, slice(edge, edge + step)), (rows, slice(40 // TOKEN, 40 // TOKEN + step))


def test_what_a_moving_patch_covers_is_less_sure_than_anything_else() -> None:
    frames, covered, uncovered = patch_before_ground()
    correspondence = FlowCorrespondence(frames, ROWS, COLUMNS)
    for frame, keyframe, hidden in ((0, 1, covered), (1, 0, uncovered)):
        sure = correspondence.maps(frame, keyframe, ROWS, COLUMNS)[1].reshape(ROWS, COLUMNS)
        is_hidden = torch.zeros(ROWS, COLUMNS, dtype=torch.bool)
        is_hidden[hidden] = True
        assert sure[is_hidden].mean() < 0.6 * sure[~is_hidden].mean()


def test_a_frame_to_itself_is_the_identity_for_sure() -> None:
    positions, sure = FlowCorrespondence(shifted((8, -4)), ROWS, COLUMNS).maps(1, 1, 7, 9)
    assert torch.equal(positions, identity(7, 9)[0])
    assert torch.equal(sure, torch.ones(63))


def test_a_clip_that_stands_still_is_the_identity_for_sure() -> None:
    frames = np.stack([texture(HEIGHT, WIDTH)] * 2)
    positions, sure = FlowCorrespondence(frames, ROWS, COLUMNS).maps(0, 1, ROWS, COLUMNS)
    torch.testing.assert_close(positions, identity(ROWS, COLUMNS)[0], rtol=0, atol=1e-3)
    assert sure.min() > 0.999


@pytest.mark.parametrize("factor", [2, 4])
def test_coarser_grids_are_averages_of_the_finest(factor: int) -> None:
    frames, _, _ = patch_before_ground()
    correspondence = FlowCorrespondence(frames, ROWS, COLUMNS)

    def field(rows: int, columns: int) -> Tensor:
        positions, sure = correspondence.maps(0, 1, rows, columns)
        moved = positions - identity(rows, columns)[0]
        return torch.cat([moved, sure[:, None]], dim=1).T.reshape(3, rows, columns)

    average = F.avg_pool2d(field(ROWS, COLUMNS), factor)
    average[:2] /= factor  # displacements are in tokens, and a token is that much larger
    # Both are float32 means of the same numbers; positions of up to 40 are subtracted again.
    torch.testing.assert_close(field(ROWS // factor, COLUMNS // factor), average, rtol=0, atol=1e-5)


def test_neighbours_are_computed_once_for_all_pairs_both_orders_and_all_grids(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(first: np.ndarray, second: np.ndarray, *, fine: bool, smoothness: float) -> np.ndarray:
        calls.append(fine)
        return np.zeros((*first.shape, 2), np.float32)

    monkeypatch.setattr(flow_module, "optical_flow", counted)
    correspondence = FlowCorrespondence(np.concatenate([shifted((4, 0))] * 2), ROWS, COLUMNS)
    for frame, keyframe in ((0, 3), (3, 0), (1, 2), (0, 2)):
        for rows, columns in ((ROWS, COLUMNS), (8, 10)):
            correspondence.maps(frame, keyframe, rows, columns)
    assert calls == [True] * 6  # there and back, three times


def test_flow_is_followed_from_frame_to_frame_in_both_orders(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between frames k and k + 1 everything moves by k + 1 latents to the right."""
    frames = np.stack([np.full((HEIGHT, WIDTH, 3), number, np.uint8) for number in range(4)])

    def flow(first: np.ndarray, second: np.ndarray, *, fine: bool, smoothness: float) -> np.ndarray:
        earlier, later = (int(each[0, 0]) for each in (first, second))
        latents = max(earlier, later) * (1 if later > earlier else -1)
        size = first.shape[1] / COLUMNS  # pixels a latent
        return np.full((*first.shape, 2), (latents * size, 0), np.float32)

    monkeypatch.setattr(flow_module, "optical_flow", flow)
    correspondence = FlowCorrespondence(frames, ROWS, COLUMNS)
    for frame, keyframe, moved in ((0, 1, 1), (0, 3, 6), (1, 3, 5), (3, 0, -6), (2, 1, -2)):
        positions, sure = correspondence.maps(frame, keyframe, ROWS, COLUMNS)
        expected_positions = identity(ROWS, COLUMNS)[0] + torch.tensor([moved, 0])
        # Fields are kept in half precision, as shares of the picture's width.
        torch.testing.assert_close(positions, expected_positions, rtol=0, atol=0.01)
        inside = (expected_positions[:, 0] > -0.5) & (expected_positions[:, 0] < COLUMNS - 0.5)
        assert torch.equal(sure, inside.float())


@given(st.lists(st.tuples(st.floats(-2, 2), st.floats(-2, 2)), min_size=1, max_size=4))
@settings(max_examples=25)
def test_flows_that_are_the_same_everywhere_add_up(steps: list[tuple[float, float]]) -> None:
    total = chain_flows([constant(*step) for step in steps])
    np.testing.assert_allclose(total, constant(*np.sum(steps, axis=0)), rtol=0, atol=1e-5)


def test_a_flow_is_followed_from_where_it_leads_to() -> None:
    """The second flow grows by a tenth a column: from two columns further on it is 0.2 more."""
    ramp = np.dstack([np.tile(np.arange(16, dtype=np.float32) / 10, (12, 1)), np.zeros((12, 16), np.float32)])
    total = chain_flows([constant(2, 0), ramp])
    np.testing.assert_allclose(total[:, :14], (constant(2, 0) + ramp + constant(0.2, 0))[:, :14], rtol=0, atol=1e-5)


def constant(dx: float, dy: float, height: int = 12, width: int = 16) -> np.ndarray:
    return np.full((height, width, 2), (dx, dy), np.float32)


def test_a_picture_read_along_no_flow_is_itself() -> None:
    picture = texture(12, 16).astype(np.float32)
    assert np.array_equal(warp_image(picture, constant(0, 0)), picture)


def test_along_whole_pixels_a_picture_is_read_elsewhere_and_beyond_its_border_is_its_border() -> None:
    picture = texture(12, 16).astype(np.float32)
    rows, columns = np.clip(np.arange(12) - 2, 0, 11), np.clip(np.arange(16) + 3, 0, 15)
    assert np.array_equal(warp_image(picture, constant(3, -2)), picture[rows][:, columns])


@given(st.floats(-4, 4), st.floats(-4, 4))
@settings(max_examples=25)
def test_a_ramp_read_along_a_flow_is_the_ramp_plus_the_flow(dx: float, dy: float) -> None:
    rows, columns = np.mgrid[0:12, 0:16].astype(np.float32)
    ramp = np.dstack([columns, rows])
    read = warp_image(ramp, constant(dx, dy))
    within = np.s_[4:-4, 4:-4]
    # OpenCV may round coordinates to 1/32 of a pixel, so to half of that at most.
    np.testing.assert_allclose(read[within], (ramp + constant(dx, dy))[within], rtol=0, atol=1 / 64 + 1e-5)


def test_a_flow_that_is_taken_back_is_sure_inside_the_picture_and_not_at_all_outside() -> None:
    sure = confidence(constant(3, 0), constant(-3, 0))
    assert np.all(sure[:, :-3] == 1)
    assert np.all(sure[:, -3:] == 0)


@pytest.mark.parametrize(("dx", "dy"), [(1.0, 0.0), (3.0, 2.0), (-0.5, 0.25)])
def test_confidence_is_half_where_the_way_back_misses_by_the_tolerance(dx: float, dy: float) -> None:
    """|flow + back|² = 0.01·(|flow|² + |back|²) + 0.5, with back = −s·flow, solved for s."""
    length = dx**2 + dy**2
    # (1 − s)²·l = 0.01·(1 + s²)·l + 0.5  ⇔  0.99·s² − 2·s + 0.99 − 0.5/l = 0
    s = (2 + np.sqrt(4 - 4 * 0.99 * (0.99 - 0.5 / length))) / (2 * 0.99)
    sure = confidence(constant(dx, dy), constant(-s * dx, -s * dy))
    np.testing.assert_allclose(sure[4:-4, 4:-4], 0.5, atol=1e-5)


def test_a_token_that_stands_still_is_lost_where_the_way_back_misses_by_half_a_latent() -> None:
    half = MIN_RESOLUTION / 2
    missed_by = [confidence(constant(0, 0), constant(miss * half, 0))[6, 8] for miss in (1, 1.1)]
    assert missed_by[0] > OCCLUDED_BELOW > missed_by[1]


def test_the_further_the_way_back_misses_the_less_sure() -> None:
    middle = [confidence(constant(0, 0), constant(miss, 0))[6, 8] for miss in (0, 0.2, 0.5, 1, 2, 5)]
    assert middle == sorted(middle, reverse=True)
    assert middle[0] == 1
    assert middle[-1] < 0.01


TOKENS = 32
"""A side of the finest token grid of the drawn clips: 4 of their 128 pixels a token."""


def to_tokens(field: np.ndarray) -> np.ndarray:
    return cv2.resize(field.astype(np.float32), (TOKENS, TOKENS), interpolation=cv2.INTER_AREA)


class Drawn:
    """A drawn clip's maps between frame 0 and another, there and back, beside the truth; tokens pooled over both."""

    def __init__(self, clip: Clip, distance: int) -> None:
        pictures = np.stack([clip.render(frame).picture for frame in range(distance + 1)])
        correspondence = FlowCorrespondence((255 * pictures).round().astype(np.uint8), TOKENS, TOKENS)
        errors, motions, sures, hidden = [], [], [], []
        for frame, keyframe in ((0, distance), (distance, 0)):
            positions, sure = correspondence.maps(frame, keyframe, TOKENS, TOKENS)
            moved = (positions - identity(TOKENS, TOKENS)[0]).numpy()
            truth = to_tokens(clip.flow(frame, keyframe)).reshape(-1, 2) / (clip.render(0).mask.shape[0] / TOKENS)
            errors.append(np.linalg.norm(moved - truth, axis=1))
            motions.append(np.linalg.norm(truth, axis=1))
            sures.append(sure.numpy())
            hidden.append(to_tokens(clip.occluded(frame, keyframe)).reshape(-1))
        self.error, self.motion, self.sure, share = map(np.concatenate, (errors, motions, sures, hidden))
        self.visible, self.occluded = share == 0, share == 1


@pytest.mark.parametrize(
    ("name", "distance", "bound"),
    [
        # Measured on wholly visible tokens: 0.029, 0.158 and 0.365; 0.30, 0.86 and 1.38.
        ("dog_walk", 1, 0.035),
        ("dog_walk", 4, 0.19),
        ("dog_walk", 8, 0.44),
        ("car_drive", 1, 0.36),
        ("car_drive", 4, 1.0),
        ("car_drive", 8, 1.6),
    ],
)
def test_on_a_drawn_clip_visible_tokens_are_found_within_the_bound(name: str, distance: int, bound: float) -> None:
    drawn = Drawn(CLIPS[name], distance)
    assert drawn.error[drawn.visible].mean() < bound


@pytest.mark.parametrize(("name", "distance"), [("dog_walk", 4), ("car_drive", 1), ("car_drive", 4), ("car_drive", 8)])
def test_on_a_drawn_clip_flow_is_better_than_to_take_everything_for_still(name: str, distance: int) -> None:
    drawn = Drawn(CLIPS[name], distance)
    assert drawn.error[drawn.visible].mean() < 0.75 * drawn.motion[drawn.visible].mean()


@pytest.mark.parametrize(("distance", "bound"), [(1, 0.034), (4, 0.14), (8, 0.23)])
def test_where_the_camera_alone_moves_tokens_are_found_within_the_bound(distance: int, bound: float) -> None:
    clip = replace(CLIPS["dog_walk"], motion=Motion(pan=(0.4, 0.0)))
    drawn = Drawn(clip, distance)
    # Measured: 0.028, 0.112 and 0.191.
    assert drawn.motion[drawn.visible].mean() > 0.3 * distance  # a pan of 40 % of the picture's width in 24 frames
    assert drawn.error[drawn.visible].mean() < bound


@pytest.mark.parametrize(("name", "bound"), [("dog_walk", 1.7), ("cat_walk", 1.95), ("car_drive", 3.0)])
def test_what_is_occluded_is_still_looked_for_nearby(name: str, bound: float) -> None:
    """Nothing there is right; a far match would tear the picture."""
    drawn = Drawn(CLIPS[name], 4)
    assert drawn.occluded.sum() > 100
    # Measured: 1.41, 1.62 and 2.51.
    assert drawn.error[drawn.occluded].mean() < bound


@pytest.mark.parametrize("name", ["dog_walk", "car_drive"])
def test_on_a_drawn_clip_what_is_occluded_is_less_sure(name: str) -> None:
    drawn = Drawn(CLIPS[name], 8)
    assert drawn.occluded.sum() > 100
    # Measured: 0.43 against 0.78 in dog_walk, 0.20 against 0.49 in car_drive.
    assert drawn.sure[drawn.occluded].mean() < 0.65 * drawn.sure[drawn.visible].mean()


@ORDERS
@pytest.mark.parametrize("larger", [2, 4])
def test_frames_of_more_pixels_give_the_same_shift(frame: int, keyframe: int, larger: int) -> None:
    """More pixels along each side and as much more shift: the same in tokens, and no flow of a larger size."""
    frames = [cv2.resize(each, None, fx=larger, fy=larger, interpolation=cv2.INTER_CUBIC) for each in shifted((4, 0))]
    correspondence = FlowCorrespondence(np.stack(frames), ROWS, COLUMNS)
    assert correspondence._grey(0).shape == (2 * HEIGHT, 2 * WIDTH)
    positions, _ = correspondence.maps(frame, keyframe, ROWS, COLUMNS)
    truth, visible = expected((4, 0), frame, ROWS, COLUMNS)
    # Measured: 0.005 at most, as with the frames as they are.
    assert (positions - truth).norm(dim=1)[visible].mean() < 0.01


@pytest.mark.parametrize(("latents", "pixels"), [(63, 504), (64, 256), (128, 512)])
def test_small_pictures_are_made_larger_for_flow_and_large_ones_smaller(latents: int, pixels: int) -> None:
    frames = np.zeros((1, 8 * latents, 8 * latents, 3), np.uint8)
    assert FlowCorrespondence(frames, latents, latents)._grey(0).shape == (pixels, pixels)


def test_flow_back_is_followed_through_the_frames_in_their_order_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """From frame 2 to 1 everything moves by four latents to the left, from 1 to 0 what is in the left half by two."""
    frames = np.stack([np.full((HEIGHT, WIDTH, 3), number, np.uint8) for number in range(3)])

    def flow(first: np.ndarray, second: np.ndarray, *, fine: bool, smoothness: float) -> np.ndarray:
        found = np.zeros((*first.shape, 2), np.float32)
        size = first.shape[1] / COLUMNS  # pixels a latent
        if (first[0, 0], second[0, 0]) == (2, 1):
            found[..., 0] = -4 * size
        if (first[0, 0], second[0, 0]) == (1, 0):
            found[:, : first.shape[1] // 2, 0] = -2 * size
        return found

    monkeypatch.setattr(flow_module, "optical_flow", flow)
    positions, _ = FlowCorrespondence(frames, ROWS, COLUMNS).maps(2, 0, ROWS, COLUMNS)
    moved = (positions - identity(ROWS, COLUMNS)[0])[:, 0].reshape(ROWS, COLUMNS)
    # What is up to four latents right of the middle comes into the left half on its way.
    torch.testing.assert_close(moved[:, COLUMNS // 2 + 1], torch.full((ROWS,), -6.0), rtol=0, atol=0.01)
    torch.testing.assert_close(moved[:, COLUMNS // 2 + 6], torch.full((ROWS,), -4.0), rtol=0, atol=0.01)
