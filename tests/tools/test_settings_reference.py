"""docs/settings.md lists every setting, and is what the generator writes."""

import re

from tests.config.test_settings import settings
from tokenflow.config import ControlUnit, LoRA, LoRATraining, Reference, Region, TextualInversion
from tools.settings_reference import DOCUMENT, document

ITEMS = {
    "edit.regions": Region,
    "edit.references": Reference,
    "edit.controlnet.also": ControlUnit,
    "model.loras": LoRA,
    "model.textual_inversions": TextualInversion,
}
"""Sections that are items of lists."""


def rows() -> dict[str, list[str]]:
    """The cells of each setting's row, by key."""
    cells = (re.split(r" \| ", line.strip("| ")) for line in document().splitlines() if line.startswith("| `"))
    return {key.strip("`"): rest for key, *rest in cells}


def test_the_committed_page_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), "run `make docs`"


def test_every_setting_has_a_row_with_its_description() -> None:
    listed = {key: cells[-1] for key, cells in rows().items()}
    expected = {key: field.description for key, field in settings()}
    for key, section in ITEMS.items():
        expected |= {f"{key}[].{name}": field.description for name, field in section.model_fields.items()}
    expected |= {name: field.description for name, field in LoRATraining.model_fields.items() if name != "model"}
    assert listed == expected


def test_values_and_defaults_are_those_of_the_setting() -> None:
    assert rows()["edit.mode"][:2] == ["`pnp`, `sdedit`, `controlnet`, `flowedit`, `keyframes`, `instruct`", "`pnp`"]
    assert rows()["edit.sdedit.strength"][:2] == ["number > 0, ≤ 1", "`0.76`"]
    assert rows()["inversion.iterations"][:2] == ["integer from 1 to 10", "`1`"]
    assert rows()["edit.references"][:2] == ["a list of sections or text", "`[]`"]
    assert rows()["clip.cuts"][:2] == ["a list of integer ≥ 1 or `auto`", "`auto`"]
    assert rows()["clip.path"][:2] == ["path", "required"]
    assert rows()["clip.frames"][:2] == ["integer ≥ 1 or `null`", "`null`"]
    assert rows()["edit.negative_prompt"][1] == '`""`'
    assert rows()["output.pngs"][:2] == ["`true`, `false`", "`false`"]
