"""Warp error and flicker by hand, on clips with known motion, and against VBench where both are defined."""

from itertools import pairwise

import numpy as np
import pytest

from tests.correspondence.test_flow import texture
from tokenflow.metrics import Steadiness, flicker, warp_error
from tokenflow.metrics.steadiness import Motion
from tools.mini_sd.build_clips import CLIPS


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


def test_along_the_exact_flow_there_is_no_warp_error() -> None:
    ground = texture(40, 60).astype(np.float32) / 255
    first, second = ground[4:36, 10:50], ground[2:34, 13:53]  # 3 to the left, 2 down
    flow = np.full((32, 40, 2), (-3, 2), np.float32)
    inside = np.zeros((32, 40), bool)
    inside[:-2, 3:] = True
    assert warp_error(first, second, flow, inside) == 0
    assert warp_error(first, second, 0 * flow, inside) > 1e-3


@pytest.mark.parametrize("name", ["dog_walk", "car_drive"])
def test_along_the_exact_flow_of_a_drawn_clip_there_is_almost_no_warp_error(name: str) -> None:
    clip = CLIPS[name]
    first, second = (clip.render(frame).picture for frame in (2, 3))
    visible = ~clip.occluded(2, 3)
    exact = warp_error(first, second, clip.flow(2, 3), visible)
    still = warp_error(first, second, np.zeros_like(clip.flow(2, 3)), visible)
    # Textures are looked up between pixels: measured 6e-6 and 2.9e-5, of 1.4e-3 and 3.0e-3 without the flow.
    assert exact < 5e-5
    assert exact < 0.02 * still


def measure(figure: str, source: list[np.ndarray], /, **edits: list[np.ndarray]) -> dict[str, list[float]]:
    measured = Steadiness()
    for frame, image in enumerate(source):
        measured.add(image, {name: edit[frame] for name, edit in edits.items()})
    return measured.over_time.get(figure, {})


def errors(source: list[np.ndarray], /, **edits: list[np.ndarray]) -> dict[str, list[float]]:
    """Warp errors in their own unit, without the factor 10³."""
    each = measure("warp_error_e3", source, **edits)
    return {name: [1e-3 * value for value in values] for name, values in each.items()}


def panning(frames: int = 4, step: int = 4) -> list[np.ndarray]:
    ground = texture(64, 96 + step * frames)
    return [ground[:, step * frame : step * frame + 96] for frame in range(frames)]


def flickering(clip: list[np.ndarray], levels: int) -> list[np.ndarray]:
    """The clip with less contrast, every other frame brighter by so many grey levels."""
    dimmed = [(40 + image * 0.6).astype(np.uint8) for image in clip]
    return [image + np.uint8(levels * (frame % 2)) for frame, image in enumerate(dimmed)]


def test_a_still_clip_has_no_warp_error() -> None:
    still = [texture(64, 96)] * 4
    assert errors(still, source=still) == {"source": [0.0] * 3}


def test_a_moving_clip_has_almost_no_warp_error() -> None:
    clip = panning()
    # Measured: 2e-6 at most, half a grey level; standing still it would be 1e-2.
    assert max(errors(clip, source=clip)["source"]) < 1e-5


def test_the_warp_error_of_flicker_over_a_still_clip_is_its_square() -> None:
    still = [texture(64, 96)] * 4
    assert errors(still, edit=flickering(still, 10))["edit"] == pytest.approx([(10 / 255) ** 2] * 3, rel=1e-4)


def test_warp_error_grows_with_flicker_over_a_moving_clip() -> None:
    clip = panning()
    edits = {str(levels): flickering(clip, levels) for levels in (0, 4, 12, 30)}
    means = [np.mean(each) for each in errors(clip, **edits).values()]
    assert means == sorted(means)
    assert means[1] == pytest.approx((4 / 255) ** 2, rel=0.1)
    assert means[3] == pytest.approx((30 / 255) ** 2, rel=0.1)


def test_an_edit_that_moves_with_its_source_has_the_smaller_error() -> None:
    clip = panning()
    measured = errors(clip, moves=[255 - image for image in clip], stays=[clip[0]] * len(clip))
    assert np.mean(measured["moves"]) < 0.01 * np.mean(measured["stays"])


def test_there_is_one_error_per_pair_of_neighbours() -> None:
    clip = panning()
    assert [len(each) for each in errors(clip, a=clip, b=clip).values()] == [3, 3]
    assert errors(clip[:1], a=clip) == {}


def test_flicker_by_hand() -> None:
    """A pixel between neighbours of 0.2 and 0.6 is expected at 0.4; the right one came from the left."""
    before, image, after = (np.array([[[left] * 3, [right] * 3]]) for left, right in ((0.2, 0), (0.5, 0.3), (0.6, 0)))
    still = np.zeros((1, 2, 2), np.float32)
    to_the_left = np.array([[[0.0, 0.0], [-1.0, 0.0]]], np.float32)
    everywhere = np.ones((1, 2), bool)
    left, right, moved = abs(0.5 - 0.4), abs(0.3 - 0), abs(0.3 - (0.2 + 0.6) / 2)
    assert flicker(before, image, after, still, still, everywhere) == pytest.approx((left + right) / 2)
    assert flicker(before, image, after, to_the_left, to_the_left, everywhere) == pytest.approx((left + moved) / 2)
    assert flicker(before, image, after, still, still, ~everywhere) == 0


def test_flicker_of_a_still_clip_alternating_between_two_images_is_vbenchs() -> None:
    still = [texture(64, 96)] * 5
    edit = flickering(still, 12)
    vbench = [np.abs(first.astype(float) - second).mean() for first, second in pairwise(edit)]
    assert measure("flicker", still, edit=edit)["edit"] == pytest.approx(vbench[1:], rel=1e-4)


def test_an_even_drift_of_light_has_warp_error_and_no_flicker() -> None:
    still = [texture(64, 96)] * 5
    dusk = [(40 + image * 0.6).astype(np.uint8) + np.uint8(6 * frame) for frame, image in enumerate(still)]
    assert measure("flicker", still, edit=dusk)["edit"] == pytest.approx([0] * 3, abs=1e-4)
    assert min(errors(still, edit=dusk)["edit"]) == pytest.approx((6 / 255) ** 2, rel=1e-3)


def test_flicker_is_distinguished_from_motion() -> None:
    clip = panning(5)
    steady, restless = (np.mean(measure("flicker", clip, edit=flickering(clip, levels))["edit"]) for levels in (0, 12))
    # Measured: 0.09 of 255 that flow between pixels leaves; standing still where the source moves it would be 30.
    assert steady < 0.3
    assert restless == pytest.approx(12, abs=0.3)


def test_there_is_one_flicker_per_frame_with_two_neighbours() -> None:
    clip = panning()
    assert len(measure("flicker", clip, a=clip)["a"]) == 2
    assert measure("flicker", clip[:2], a=clip) == {}


def test_flicker_counts_pixels_visible_in_both_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pixel of the middle frame is occluded before, one after; changes there do not count."""
    visible_before, visible_after, everywhere = (np.ones((8, 8), bool) for _ in range(3))
    visible_before[2, 3] = visible_after[5, 6] = False
    still = np.zeros((8, 8, 2), np.float32)
    motions = {0: Motion(still, still, everywhere, visible_before), 1: Motion(still, still, visible_after, everywhere)}
    source = [np.full((8, 8, 3), 10 + frame, np.uint8) for frame in range(3)]
    monkeypatch.setattr(Motion, "between", lambda earlier, _later: motions[int(earlier[0, 0]) - 10])
    edit = [np.full((8, 8, 3), 100, np.uint8) for _ in range(3)]
    edit[1][2, 3] = edit[1][5, 6] = 200
    assert measure("flicker", source, edit=edit)["edit"] == [0.0]
    edit[1][4, 4] = 200
    assert measure("flicker", source, edit=edit)["edit"] == pytest.approx([100 / 62])
