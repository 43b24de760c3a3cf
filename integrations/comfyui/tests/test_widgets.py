"""Widgets from settings, and settings from widgets."""

import importlib
from types import ModuleType
from typing import Any

import pytest
from conftest import Nodes
from pydantic import BaseModel

from tokenflow.config import ControlNet, Edit, Inversion, Model, PnP, Region, SDEdit


@pytest.fixture(scope="module")
def widgets(pack: ModuleType, nodes: Nodes) -> ModuleType:
    return importlib.import_module(f"{pack.__name__}.host.widgets")


NAMES = {
    Model: ("dtype", "offload", "tiling", "base", "revision", "variant", "prediction_type", "few_step"),
    Inversion: ("steps", "iterations", "batch_size"),
    Edit: ("negative_prompt", "guidance_scale", "seed", "keyframe_interval", "keyframe_window", "guidance"),
    PnP: tuple(PnP.model_fields),
    SDEdit: tuple(SDEdit.model_fields),
    ControlNet: ("path", "scale", "start", "end", "noise"),
    Region: ("words", "auto", "prompt", "grow", "feather", "invert"),
}


@pytest.mark.parametrize(
    ("section", "name"), [(section, name) for section, names in NAMES.items() for name in names], ids=str
)
def test_a_widget_left_as_it_is_means_the_default_of_its_setting(
    section: type[BaseModel], name: str, widgets: ModuleType
) -> None:
    made = widgets.widget(section, name)
    assert widgets.settings(section, {name: made.default}) == {name: section.model_fields[name].default}


@pytest.mark.parametrize(
    ("section", "name", "value", "expected"),
    [
        (Edit, "keyframe_interval", 0, None),
        (Edit, "keyframe_interval", 3, 3),
        (Edit, "seed", 0, 0),
        (Edit, "negative_prompt", "", ""),
        (Model, "base", "", None),
        (Model, "dtype", "auto", "auto"),
        (Model, "few_step", "auto", None),
        (Model, "few_step", "yes", True),
        (Model, "few_step", "no", False),
        (Model, "prediction_type", "auto", None),
        (Model, "offload", False, False),
        (Region, "words", "", None),
    ],
)
def test_what_stands_for_null_is_told_from_a_value(
    section: type[BaseModel], name: str, value: Any, expected: Any, widgets: ModuleType
) -> None:
    assert widgets.settings(section, {name: value}) == {name: expected}


def test_bounds_are_those_of_the_setting(widgets: ModuleType) -> None:
    strength = widgets.widget(SDEdit, "strength")
    assert (strength.min, strength.max) == (0.01, 1.0)  # above 0
    assert widgets.widget(Edit, "keyframe_window").min == 2
    assert widgets.widget(Edit, "keyframe_interval").min == 0
    assert widgets.widget(Edit, "guidance").options == ["propagated", "per_frame"]
    assert widgets.widget(Model, "prediction_type").options[:2] == ["auto", "epsilon"]


def test_tooltips_speak_of_widgets(widgets: ModuleType) -> None:
    assert "0 for 4" in widgets.widget(Edit, "keyframe_interval").tooltip
    assert "null" not in widgets.widget(Model, "base").tooltip
    assert "edit." not in widgets.widget(Edit, "seed").tooltip
    assert "as always in Plug-and-Play" in widgets.widget(Edit, "seed").tooltip
    assert "that SDEdit skips" in widgets.widget(Edit, "propagate_edit_until").tooltip
