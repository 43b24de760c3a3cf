"""Edge agreement falls for what the classifier does not see: a missing head, a missing face, another's roof."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.cells import classifier
from benchmarks.clips import BENCHMARK, Case
from benchmarks.edges import edge_agreement
from tokenflow.diffusion.batches import as_tensor

FRAMES = slice(0, 12, 4)
CAT = next(case for case in BENCHMARK if case.clip == "cat_enters")
ELEPHANT = next(case for case in BENCHMARK if case.clip == "elephant_near")


def perfect(case: Case) -> np.ndarray:
    return (case.truth.perfect[FRAMES] * 255).round().astype(np.uint8)


def masks(case: Case) -> np.ndarray:
    return case.truth.target.masks()[FRAMES]


def agreement(case: Case, edited: np.ndarray) -> dict[str, float]:
    return edge_agreement(edited, perfect(case), masks(case))


def without_front(case: Case, share: float) -> np.ndarray:
    """The perfect edit with the front of its object, which faces left, painted over by what is beside it."""
    frames = perfect(case).copy()
    for frame, mask in zip(frames, masks(case), strict=True):
        columns = np.flatnonzero((mask > 0.5).any(0))
        last = columns[0] + round(share * (columns[-1] - columns[0]))
        beside = frame[:, max(columns[0] - 3, 0)].copy()
        frame[:, max(columns[0] - 3, 0) : last] = beside[:, None]
    return frames


@pytest.mark.parametrize("case", [CAT, ELEPHANT])
def test_the_perfect_edit_agrees_with_itself(case: Case) -> None:
    assert agreement(case, perfect(case)) == {"edges": 1.0, "worst_crop": 1.0}


@pytest.mark.parametrize("case", [CAT, ELEPHANT])
def test_a_missing_head_costs_the_worst_crop_most(case: Case) -> None:
    headless = agreement(case, without_front(case, 0.4))
    assert headless["worst_crop"] < 0.35
    assert 0.35 < headless["edges"] < 0.9


def test_a_classifier_of_whole_images_does_not_miss_the_head() -> None:
    network = classifier()
    assert network is not None
    with torch.no_grad():
        seen = network(as_tensor(without_front(ELEPHANT, 0.25)))["object"].argmax(1)
    assert {list(network.kinds["object"])[index] for index in seen} == {"elephant"}
    assert agreement(ELEPHANT, without_front(ELEPHANT, 0.25))["worst_crop"] < 0.7


def test_another_object_in_the_same_place_agrees_less() -> None:
    other = replace(ELEPHANT.truth, target=ELEPHANT.truth.target.with_words(object="zebra"))
    frames = (other.perfect[FRAMES] * 255).round().astype(np.uint8)
    assert agreement(ELEPHANT, frames)["worst_crop"] < 0.3


def test_a_shift_within_the_tolerance_costs_nothing_and_a_larger_one_much() -> None:
    frames = perfect(ELEPHANT)
    assert agreement(ELEPHANT, np.roll(frames, 1, axis=2))["edges"] > 0.95
    assert agreement(ELEPHANT, np.roll(frames, 8, axis=2))["edges"] < 0.6


def test_an_image_without_edges_agrees_in_nothing() -> None:
    assert agreement(ELEPHANT, np.full_like(perfect(ELEPHANT), 128)) == {"edges": 0.0, "worst_crop": 0.0}
