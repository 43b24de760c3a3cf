"""Figures are told in plain words: what is good, and what to change."""

from typing import Any

import pytest

from tokenflow.apps.web.figures import figures_html, findings

GOOD: dict[str, Any] = {
    "reconstruction": {"inversion_psnr": 34.0, "autoencoder_psnr": 36.0},
    "warp_error_e3": {"source": 0.1, "reconstruction": 0.2, "edit": 0.25},
    "detail": {"source": 1.0, "reconstruction": 0.9, "edit": 0.8},
    "change": {"whole": 12.0},
    "words": {"source": 0.0, "edit": 1.0},
    "clip_text": {"source": 0.2, "edit": 0.3},
}


def test_a_good_edit_needs_no_advice() -> None:
    found = list(findings(GOOD))
    assert len(found) == len(GOOD)
    assert all(finding.is_good and not finding.advice for finding in found)


@pytest.mark.parametrize(
    ("name", "values", "text"),
    [
        ("reconstruction", {"inversion_psnr": 24.0, "autoencoder_psnr": 25.0}, "represents the clip poorly"),
        ("reconstruction", {"inversion_psnr": 24.0, "autoencoder_psnr": 36.0}, "inversion loses"),
        ("warp_error_e3", {"source": 0.1, "reconstruction": 0.2, "edit": 0.9}, "It flickers: 4.5 ×"),
        ("detail", {"source": 1.0, "reconstruction": 0.9, "edit": 0.3}, "It is blurred"),
        ("change", {"whole": 1.0, "outside": 0.5}, "hardly differs"),
        ("words", {"source": 0.0, "edit": 0.5}, "in only 50% of the frames"),
        ("clip_text", {"source": 0.3, "edit": 0.2}, "no better"),
    ],
)
def test_each_fault_is_named_with_something_to_try(name: str, values: dict[str, float], text: str) -> None:
    poor = [finding for finding in findings(GOOD | {name: values}) if not finding.is_good]
    assert len(poor) == 1
    assert text in poor[0].text
    assert poor[0].advice


def test_figures_that_are_missing_are_left_out() -> None:
    assert list(findings({})) == []
    assert figures_html({}) == ""
    assert figures_html({"change": {"whole": 12.0}}).count("<li") == 1


def test_an_edit_with_more_detail_may_have_more_warp_error() -> None:
    rough = GOOD | {
        "warp_error_e3": {"reconstruction": 0.2, "edit": 0.9},
        "detail": {"reconstruction": 0.9, "edit": 1.8},
    }
    assert any("It is steady: 2.2 ×" in finding.text for finding in findings(rough))
