"""What a client's settings may not do: refer to the server's variables, or name files and models."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tokenflow.apps.server.edits import Asked, configuration, read_client_settings
from tokenflow.apps.server.problems import Problem
from tokenflow.apps.server.settings import Variant
from tokenflow.config import Config
from tokenflow.config.files import field_type, forms, is_file, item_types
from tokenflow.config.suggestions import is_section

pytestmark = pytest.mark.serve

SECRET = "a-secret-of-the-server"
REFERENCE = "${oc.env:SECRET_OF_THE_SERVER}"
FOREIGN = "/etc/hostname"


@pytest.fixture
def variant(monkeypatch: pytest.MonkeyPatch) -> Variant:
    monkeypatch.setenv("SECRET_OF_THE_SERVER", SECRET)
    return Variant.model_validate({"model": "model"})


def asked(settings: dict[str, Any]) -> Asked:
    given = read_client_settings(json.dumps(settings))
    return Asked("a tiger", "a dog", None, None, None, None, None, given, Path("clip.mp4"), None, {})


def values_in(kind: Any, value: str, *, of_files: bool) -> Iterator[Any]:
    """Every place of a type that a name may stand at, or any text: the setting with it there."""
    for form in forms(kind):
        if is_section(form):
            for name in form.model_fields:
                yield from ({name: each} for each in values_in(field_type(form, name), value, of_files=of_files))
        elif is_file(form) or (not of_files and form in (str, int, float)):
            yield value
        elif isinstance(items := item_types(form), tuple) and items:
            for item in items:
                for each in values_in(item, value, of_files=of_files):
                    yield [each]
                    yield {"0": each}


PLACES = {json.dumps(each): each for each in values_in(Config, FOREIGN, of_files=True)}


def test_the_settings_that_name_files_are_found() -> None:
    assert {
        '{"clip": {"sound": "/etc/hostname"}}',
        '{"model": {"loras": [{"path": "/etc/hostname"}]}}',
        '{"edit": {"controlnet": {"also": [{"path": "/etc/hostname"}]}}}',
        '{"edit": {"keyframes": {"frames": {"0": "/etc/hostname"}}}}',
        '{"edit": {"regions": [{"mask": "/etc/hostname"}]}}',
        '{"edit": {"references": [{"path": "/etc/hostname"}]}}',
    } <= set(PLACES)


@pytest.mark.parametrize("place", PLACES)
def test_no_setting_of_a_client_names_a_file_or_model(place: str, variant: Variant) -> None:
    with pytest.raises(Problem) as raised:
        configuration(asked(PLACES[place]), variant, Path("inversions"), Path("result"))
    assert raised.value.status_code == 422


def outcome(settings: dict[str, Any], variant: Variant) -> str:
    """The configuration that settings make, or why they are refused."""
    try:
        made = configuration(asked(settings), variant, Path("inversions"), Path("result"))
    except Problem as problem:
        return problem.detail
    return made.model_dump_json()


def test_no_text_of_a_client_refers_to_the_environment(variant: Variant) -> None:
    places = list(values_in(Config, REFERENCE, of_files=False))
    assert {"edit": {"regions": [{"prompt": REFERENCE}]}} in places
    places += [{"edit": {"steps": [[REFERENCE]]}}, {"edit": {"regions": [{"words": "dog", "x": [REFERENCE]}]}}]
    assert not [place for place in places if SECRET in outcome(place, variant)]


def test_references_in_lists_are_taken_literally(variant: Variant) -> None:
    regions = [{"words": "dog", "prompt": REFERENCE}]
    made = configuration(asked({"edit": {"regions": regions}}), variant, Path("inversions"), Path("result"))
    assert made.edit.regions[0].prompt == REFERENCE  # type: ignore[union-attr]


def with_references(sections: Any, variant: Variant) -> str:
    """What becomes of sections for two references, in one line."""
    of_two = replace(asked({"edit": {"references": sections}}), references=(Path("a.png"), Path("b.png")))
    try:
        made = configuration(of_two, variant, Path("inversions"), Path("result"))
    except Problem as problem:
        return f"{problem.param}: {problem.detail}"
    return " ".join(f"{each.path} {each.kind} {each.weight:g}" for each in made.edit.references)


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        (None, "a.png identity 1 b.png identity 1"),
        ([{"kind": "style", "weight": 0}, {}], "a.png style 0 b.png identity 1"),
        (
            "style",
            r"settings: settings: edit.references: expected sections such as .*, one per image in references\[\]",
        ),
        ([{}, "style"], "settings: edit.references: expected sections such as"),
        ([{}], r"edit.references: expected as many sections as images in references\[\], 2; got 1"),
        ([{}, {"path": FOREIGN}], "edit.references.1.path cannot be set by clients; allowed: kind, weight"),
        ([{"kind": "look"}, {}], "edit.references.0.kind"),
        ([{}, {"weight": -1}], "edit.references.1.weight"),
    ],
)
def test_uploaded_references_have_kinds_and_weights(sections: Any, expected: str, variant: Variant) -> None:
    assert re.search(expected, with_references(sections, variant))
