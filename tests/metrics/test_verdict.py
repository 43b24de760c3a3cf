"""The verdict on an edit, from its figures alone."""

from copy import deepcopy
from typing import Any

import pytest

from tokenflow.metrics import Verdict, judge
from tokenflow.metrics.verdict import BOLDER, CLOSER

GOOD: dict[str, dict[str, Any]] = {
    "reconstruction": {"autoencoder_psnr": 37.0},
    "detail": {"reconstruction": 0.9, "edit": 0.8},
    "change": {"whole": 20.0, "most": 90.0},
    "outlines": {"reconstruction": 1.0, "edit": 0.85},
    "words": {"source": 0.0, "edit": 1.0},
}


def changed(metric: str, **values: float) -> dict[str, dict[str, Any]]:
    figures = deepcopy(GOOD)
    figures[metric] |= values
    return figures


def test_an_edit_with_good_figures_is_good() -> None:
    found = judge(GOOD, "pnp", keeps_object=True)
    assert str(found) == "good: the classifier sees the prompt in 100% of the frames"


@pytest.mark.parametrize(
    ("metric", "values", "name", "said", "remedy"),
    [
        ("reconstruction", {"autoencoder_psnr": 24.5}, "clip not shown", "24.5 dB", "clip.size"),
        ("detail", {"edit": 0.3}, "flattened", "33% of the detail of the reconstruction", "edit.steps"),
        ("change", {"most": 12.0}, "hardly edited", "12 of 255", "edit.guidance_scale"),
        ("words", {"edit": 0.25}, "prompt not followed", "25% of the frames", "words that the model knows"),
        ("outlines", {"edit": 0.5}, "parts lost", "50% of the source's outlines", "edit.sdedit.strength"),
    ],
)
def test_each_failure_is_named_with_its_figure_and_what_to_change(
    metric: str, values: dict[str, float], name: str, said: str, remedy: str
) -> None:
    found = judge(changed(metric, **values), "sdedit", keeps_object=True)
    assert found.name == name
    assert said in found.finding
    assert remedy in found.remedy
    assert str(found) == f"{found.name}: {found.finding}; {found.remedy}"


def test_lost_outlines_are_no_failure_where_the_prompt_names_another_object() -> None:
    assert judge(changed("outlines", edit=0.3), "sdedit").name == "good"


def test_without_a_reconstruction_the_detail_is_compared_with_the_sources() -> None:
    figures = changed("detail", edit=0.35)
    del figures["reconstruction"], figures["detail"]["reconstruction"]
    assert "35% of the detail of the source" in judge(figures, "pnp").finding


def test_clip_judges_where_there_is_no_classifier() -> None:
    figures = {name: value for name, value in GOOD.items() if name != "words"}
    followed = judge({**figures, "clip_text": {"source": 0.2, "edit": 0.25}}, "pnp")
    assert followed == Verdict("good", "CLIP finds the edit closer to the prompt than the source")
    missed = judge({**figures, "clip_text": {"source": 0.25, "edit": 0.24}}, "pnp")
    assert (missed.name, missed.remedy) == ("prompt not followed", BOLDER["pnp"])


def test_without_either_it_says_that_the_prompt_was_not_judged() -> None:
    found = judge({name: value for name, value in GOOD.items() if name != "words"}, "pnp")
    assert found.name == "good"
    assert "leaves out whether the prompt was followed" in found.finding
    assert "metrics.clip" in found.remedy


def test_every_mode_has_its_remedies() -> None:
    assert BOLDER.keys() == CLOSER.keys() == {"pnp", "sdedit", "controlnet", "flowedit", "keyframes", "instruct"}
