"""Figures against the ground truth of drawn clips, on edits whose figures are known."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from benchmarks.clips import BENCHMARK, KINDS, TUNING, Case
from benchmarks.truth import Truth
from tools.mini_sd.clip import MIXED, SHADE

FIRST = [next(case for case in BENCHMARK if case.kind == kind) for kind in KINDS]


def as_8_bits(images: np.ndarray) -> np.ndarray:
    return (images * 255).round().astype(np.uint8)


def named(clip: str, edit: str) -> Truth:
    return next(case.truth for case in BENCHMARK if (case.clip, case.edit) == (clip, edit))


@pytest.mark.parametrize("case", FIRST, ids=lambda case: case.name)
def test_the_perfect_edit_is_perfect(case: Case) -> None:
    perfect = as_8_bits(case.truth.perfect)
    values = case.truth.figures(perfect) | case.truth.figures_by_place(perfect)
    # Rounding to 8 bits is at worst a uniform error of 1/255: 20·log10(255) + 10·log10(12) = 58.9 dB.
    assert values["perfect_psnr"] > 58.8
    assert values["perfect_psnr_inside"] > 58.8
    assert values["detail"] == pytest.approx(1, abs=5e-3)
    # Interpolation between pixels leaves at most 0.03 over all clips here.
    assert values["warp_error_e3"] < 0.05


@pytest.mark.parametrize("case", [FIRST[0], FIRST[1], FIRST[3]], ids=lambda case: case.name)
def test_the_source_preserves_itself_and_equals_the_perfect_edit_outside(case: Case) -> None:
    values = case.truth.figures_by_place(case.truth.frames)
    assert values["preservation_psnr"] == np.inf
    outside, inside = values["perfect_psnr_outside"], values["perfect_psnr_inside"]
    assert outside is not None
    assert inside is not None
    assert outside > 40 > 30 > inside


def test_light_and_style_leave_no_outside() -> None:
    truth = named("bus_followed", "night")
    assert truth.changed == {"light"}
    assert truth.figures_by_place(truth.frames)["preservation_psnr"] is None


def test_a_background_edit_is_meant_to_change_everything_but_the_object() -> None:
    truth = named("horse_gallops", "snow")
    masks = truth.clip.masks()
    assert not truth.meant[masks > 0.99].any()
    assert truth.meant[masks < 0.5].all()


def test_a_shadow_that_differs_is_meant_to_change_and_the_rest_looks_alike() -> None:
    source = replace(FIRST[0].truth.clip, frames=3)
    truth = Truth(source, source.with_words(object="giraffe"))  # narrower than the cow, as is its shadow
    drawn = [(truth.clip.render(frame), truth.target.render(frame)) for frame in range(3)]
    relit = np.stack([np.abs(before.shadow - after.shadow) > SHADE for before, after in drawn])
    behind = np.stack([np.maximum(before.mask, after.mask) <= MIXED for before, after in drawn])
    assert (relit & behind).sum() > 100
    assert truth.meant[relit].all()
    assert not truth.meant[behind & ~relit].any()
    # At most a fraction MIXED of the object and a shadow SHADE deeper, of values up to 1.
    assert np.abs(truth.frames / 255 - truth.perfect)[~truth.meant].max() < MIXED + SHADE


def test_blur_lowers_detail_and_flicker_raises_the_warp_error() -> None:
    truth = FIRST[0].truth
    perfect = as_8_bits(truth.perfect)
    soft = ((perfect.astype(int) + np.roll(perfect, 1, 1) + np.roll(perfect, 1, 2)) // 3).astype(np.uint8)
    restless = np.clip(perfect.astype(int) + 8 * (np.arange(len(perfect)) % 2)[:, None, None, None], 0, 255)
    assert truth.figures(soft)["detail"] < 0.9
    soft_later = np.concatenate([perfect[:1], soft[1:]])
    assert truth.figures(soft_later)["detail"] < 0.9  # over all frames, not only the first
    flicker = truth.figures(restless.astype(np.uint8))["warp_error_e3"]
    # (8/255)² = 0.98e-3, a little less where white is clipped.
    assert flicker == pytest.approx(0.98, abs=0.15)


def test_a_different_outline_counts_in_the_warp_error_but_not_away_from_outlines() -> None:
    truth = FIRST[0].truth
    perfect = as_8_bits(truth.perfect)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (9, 9))
    wide = np.stack([cv2.dilate((mask > 0.5).astype(np.uint8), disc) for mask in truth.target.masks()])
    fat = np.where((wide > 0)[..., None] & (truth.target.masks() <= 0.5)[..., None], 0, perfect)
    alike, other = truth.figures(perfect), truth.figures(fat)
    assert other["warp_error_e3"] > 10 * alike["warp_error_e3"]
    assert other["warp_error_away_e3"] == pytest.approx(alike["warp_error_away_e3"], rel=0.01)


def test_the_benchmark_has_twelve_clips_every_kind_of_edit_and_no_tuning_clip() -> None:
    assert len({case.truth.clip for case in BENCHMARK}) == 12
    assert {case.kind for case in BENCHMARK} == set(KINDS)
    assert not {case.truth.clip for case in BENCHMARK} & {case.truth.clip for case in TUNING}
    assert len({case.name for case in BENCHMARK}) == len(BENCHMARK)


def test_settings_are_tuned_on_eight_clips_and_every_kind_of_edit() -> None:
    assert len({case.truth.clip for case in TUNING}) == 8
    assert {case.kind for case in TUNING} == set(KINDS)


@pytest.mark.parametrize("case", [*BENCHMARK, *TUNING], ids=lambda case: case.name)
def test_an_edit_is_of_its_kind(case: Case) -> None:
    assert case.truth.changed == {"light" if case.kind == "global" else case.kind}


@pytest.mark.parametrize("case", [FIRST[0], FIRST[3]], ids=lambda case: case.name)
def test_averaging_along_the_motion_keeps_what_all_frames_share_and_removes_what_differs(case: Case) -> None:
    truth = case.truth
    perfect = as_8_bits(truth.perfect)
    assert truth.figures(truth.averaged(perfect))["perfect_psnr"] > 40  # one interpolation between pixels
    noise = np.random.default_rng(0).normal(0, 20, perfect.shape)
    restless = np.clip(perfect + noise, 0, 255).astype(np.uint8)
    before, after = (truth.figures(images) for images in (restless, truth.averaged(restless)))
    # Noise of 12 frames falls by 10·log10(12) = 10.8 dB where all of them show a place.
    assert after["perfect_psnr"] > before["perfect_psnr"] + 6
    assert after["warp_error_e3"] < 0.1 * before["warp_error_e3"]
    shared = perfect // 2  # the same mistake in every frame
    before, after = (truth.figures(images) for images in (shared, truth.averaged(shared)))
    assert after["perfect_psnr"] == pytest.approx(before["perfect_psnr"], abs=0.1)
