"""Outlines of the source that images keep."""

import cv2
import numpy as np

from tokenflow.metrics.outlines import Outlines

SOURCE = np.full((64, 128, 3), 200, np.uint8)
cv2.rectangle(SOURCE, (20, 10), (60, 50), (60, 60, 60), -1)
cv2.circle(SOURCE, (95, 30), 18, (60, 60, 60), -1)


def kept(image: np.ndarray, source: np.ndarray = SOURCE) -> float | None:
    outlines = Outlines()
    outlines.add(source, {"edit": image})
    return outlines.over_time["outlines"]["edit"][0]


def test_an_image_keeps_all_of_its_own_outlines() -> None:
    assert kept(SOURCE) == 1.0


def test_a_part_that_is_gone_costs_its_share() -> None:
    without_disc = SOURCE.copy()
    without_disc[:, 70:] = 200
    share = kept(without_disc)
    assert share is not None
    assert 0.5 < share < 0.7
    assert kept(np.full_like(SOURCE, 200)) == 0.0


def test_other_colours_and_less_contrast_cost_nothing() -> None:
    assert kept(255 - SOURCE) == 1.0
    assert kept((SOURCE * 0.4 + 30).astype(np.uint8)) == 1.0


def test_a_source_without_outlines_is_not_measured() -> None:
    assert kept(SOURCE, np.full_like(SOURCE, 128)) is None
