"""All measures together, fed frame by frame."""

import itertools
import tracemalloc

import numpy as np
import pytest

from tests.metrics.test_steadiness import flickering, panning
from tokenflow.metrics import Measures


def measured(frames: int = 5, masks: bool = False) -> Measures:
    clip = panning(frames)
    edit = flickering(clip, 12)
    mask = itertools.repeat(np.eye(*clip[0].shape[:2])) if masks else None
    measures = Measures(iter(flickering(clip, 4)), mask)
    for source, picture in zip(clip, edit, strict=True):
        measures.add(source, picture)
    return measures


def test_source_reconstruction_and_edit_stand_side_by_side() -> None:
    figures = measured().figures()
    assert list(figures["warp_error_e3"]) == list(figures["flicker"]) == ["source", "reconstruction", "edit"]
    assert list(figures["detail"]) == ["reconstruction", "edit"]
    for name in ("warp_error_e3", "flicker"):
        source, reconstruction, edit = figures[name].values()
        assert source < reconstruction < edit
    assert figures["flicker"]["edit"] == pytest.approx(12, rel=0.05)
    # Dimmed to 0.6 of the contrast.
    assert figures["detail"]["edit"] == pytest.approx(0.36, rel=0.02)


def test_figures_are_means_of_what_was_measured_over_time() -> None:
    measures = measured(masks=True)
    series, figures = measures.over_time(), measures.figures()
    assert {name: set(each) for name, each in series.items()} == {name: set(each) for name, each in figures.items()}
    for name in set(series) - {"detail"}:
        for what, values in series[name].items():
            assert figures[name][what] == pytest.approx(np.mean([float(value or 0) for value in values]), rel=1e-3)
    assert set(figures["change"]) == {"whole", "inside", "outside"}
    counts = {name: len(next(iter(each.values()))) for name, each in series.items()}
    assert counts == {"warp_error_e3": 4, "flicker": 3, "detail": 5, "change": 5}


def test_a_single_frame_has_what_needs_no_neighbour() -> None:
    assert set(measured(frames=1).figures()) == {"detail", "change"}


def test_memory_does_not_grow_with_the_clip() -> None:
    def held_after(frames: int) -> int:
        clip = panning(2)
        measures = Measures(itertools.repeat(clip[0]))
        tracemalloc.start()
        for frame in range(frames):
            measures.add(clip[frame % 2], clip[(frame + 1) % 2].copy())
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return held

    # A picture in float32 takes 74 kB; ten numbers a frame about 0.5 kB.
    assert held_after(40) - held_after(10) < 30_000


def test_a_picture_of_one_colour_has_no_detail_to_compare_with() -> None:
    grey = np.full((32, 32, 3), 90, np.uint8)
    measures = Measures(iter([grey, grey]))
    for _ in range(2):
        measures.add(grey, grey)
    assert "detail" not in measures.figures()
    assert measures.over_time()["detail"] == {"reconstruction": [None, None], "edit": [None, None]}


def test_detail_is_that_of_all_frames_so_that_a_frame_of_next_to_one_colour_does_not_outweigh_them() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    faint = np.full((32, 32, 3), 90, np.uint8)
    faint[5, 5] = 91
    noisy = (faint + rng.integers(-3, 4, faint.shape)).astype(np.uint8)
    measures = Measures(iter([sharp, faint]))
    measures.add(sharp, sharp)
    measures.add(faint, noisy)
    assert measures.over_time()["detail"]["edit"][1] > 1000
    assert measures.figures()["detail"]["edit"] == pytest.approx(1, abs=2e-3)


def test_what_a_mask_leaves_empty_has_no_value_at_its_own_frame_and_none_in_the_mean() -> None:
    clip = panning(4)
    masks = [np.zeros(clip[0].shape[:2]), np.eye(*clip[0].shape[:2])] * 2
    measures = Measures(iter(clip), iter(masks))
    for source, picture in zip(clip, flickering(clip, 8), strict=True):
        measures.add(source, picture)
    inside = measures.over_time()["change"]["inside"]
    assert [value is None for value in inside] == [True, False, True, False]
    assert measures.figures()["change"]["inside"] == pytest.approx((inside[1] + inside[3]) / 2, rel=1e-3)
