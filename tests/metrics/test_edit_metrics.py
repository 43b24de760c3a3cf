"""All metrics of an edit, fed frame by frame."""

import itertools
import tracemalloc

import numpy as np
import pytest

from tests.metrics.test_steadiness import flickering, panning
from tokenflow.metrics import EditMetrics


def measured(frames: int = 5, masks: bool = False, reconstruction: bool = True) -> EditMetrics:
    clip = panning(frames)
    edit = flickering(clip, 12)
    mask = itertools.repeat(np.eye(*clip[0].shape[:2])) if masks else None
    metrics = EditMetrics(iter(flickering(clip, 4)) if reconstruction else None, mask)
    for source, image in zip(clip, edit, strict=True):
        metrics.add(source, image)
    return metrics


def test_source_reconstruction_and_edit_are_measured_side_by_side() -> None:
    figures = measured().figures()
    assert list(figures["warp_error_e3"]) == list(figures["flicker"]) == ["source", "reconstruction", "edit"]
    assert list(figures["detail"]) == ["reconstruction", "edit"]
    for name in ("warp_error_e3", "flicker"):
        source, reconstruction, edit = figures[name].values()
        assert source < reconstruction < edit
    assert figures["flicker"]["edit"] == pytest.approx(12, rel=0.05)
    # Dimmed to 0.6 of the contrast.
    assert figures["detail"]["edit"] == pytest.approx(0.36, rel=0.02)


def test_without_a_reconstruction_its_series_are_absent_and_all_others_the_same() -> None:
    full, without = measured(masks=True), measured(masks=True, reconstruction=False)
    for expected, found in ((full.over_time(), without.over_time()), (full.figures(), without.figures())):
        assert found == {
            metric: {name: value for name, value in by_name.items() if name != "reconstruction"}
            for metric, by_name in expected.items()
        }


def test_figures_are_means_over_time() -> None:
    metrics = measured(masks=True)
    series, figures = metrics.over_time(), metrics.figures()
    assert {name: set(each) for name, each in series.items()} == {name: set(each) for name, each in figures.items()}
    for name in set(series) - {"detail"}:
        for what, values in series[name].items():
            assert figures[name][what] == pytest.approx(np.mean([float(value or 0) for value in values]), rel=1e-3)
    assert set(figures["change"]) == {"whole", "most", "inside", "outside"}
    counts = {name: len(next(iter(each.values()))) for name, each in series.items()}
    assert counts == {"warp_error_e3": 4, "flicker": 3, "detail": 5, "change": 5, "outlines": 5}


def test_a_single_frame_has_the_metrics_without_neighbours() -> None:
    assert set(measured(frames=1).figures()) == {"detail", "change", "outlines"}


def test_memory_does_not_grow_with_the_clip() -> None:
    def held_after(frames: int) -> int:
        clip = panning(2)
        metrics = EditMetrics(itertools.repeat(clip[0]))
        tracemalloc.start()
        for frame in range(frames):
            metrics.add(clip[frame % 2], clip[(frame + 1) % 2].copy())
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return held

    # An image in float32 takes 74 kB; ten numbers per frame about 0.5 kB.
    assert held_after(40) - held_after(10) < 30_000


def test_detail_is_undefined_for_a_source_of_a_single_colour() -> None:
    grey = np.full((32, 32, 3), 90, np.uint8)
    metrics = EditMetrics(iter([grey, grey]))
    for _ in range(2):
        metrics.add(grey, grey)
    assert "detail" not in metrics.figures()
    assert metrics.over_time()["detail"] == {"reconstruction": [None, None], "edit": [None, None]}


def test_a_frame_of_almost_one_colour_does_not_dominate_the_detail_of_a_clip() -> None:
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    faint = np.full((32, 32, 3), 90, np.uint8)
    faint[5, 5] = 91
    noisy = (faint + rng.integers(-3, 4, faint.shape)).astype(np.uint8)
    metrics = EditMetrics(iter([sharp, faint]))
    metrics.add(sharp, sharp)
    metrics.add(faint, noisy)
    assert metrics.over_time()["detail"]["edit"][1] > 1000
    assert metrics.figures()["detail"]["edit"] == pytest.approx(1, abs=2e-3)


def test_frames_with_an_empty_mask_are_left_out_of_the_mean() -> None:
    clip = panning(4)
    masks = [np.zeros(clip[0].shape[:2]), np.eye(*clip[0].shape[:2])] * 2
    metrics = EditMetrics(iter(clip), iter(masks))
    for source, image in zip(clip, flickering(clip, 8), strict=True):
        metrics.add(source, image)
    inside = metrics.over_time()["change"]["inside"]
    assert [value is None for value in inside] == [True, False, True, False]
    assert metrics.figures()["change"]["inside"] == pytest.approx((inside[1] + inside[3]) / 2, rel=1e-3)
