"""The plan of the sweep: every default is one of its lines, and made once for all of them."""

import pytest

from benchmarks.quality_document import MODES
from benchmarks.sweep import SWEPT, TUNING, Line, default, guidance, one_at_a_time


@pytest.mark.parametrize("mode", MODES)
def test_every_setting_is_swept_around_its_default(mode: str) -> None:
    for key, values in SWEPT[mode].items():
        assert default(key) in values


@pytest.mark.parametrize("mode", MODES)
def test_the_defaults_are_the_same_cells_for_every_setting(mode: str) -> None:
    lines = [line for line in [*one_at_a_time(), *guidance()] if line.mode == mode]
    defaults = [line for line in lines if all(value == default(key) for key, value in line.changes)]
    assert len(defaults) == len(SWEPT[mode])
    assert {cell.settings for line in defaults for cell in line.cells} == {(("mode", mode),)}


@pytest.mark.parametrize("mode", MODES)
def test_guidance_is_compared_where_the_network_sees_every_frame(mode: str) -> None:
    lines = [dict(line.changes) for line in guidance() if line.mode == mode]
    assert all(changes["propagate_edit_until"] == 0 for changes in lines)
    assert {changes["guidance"] for changes in lines} == {"propagated", "per_frame"}


def test_a_line_has_a_cell_per_clip_and_shows_what_it_changes() -> None:
    line = Line("pnp", (("guidance_scale", 3.0), ("guidance", "propagated")))
    assert [cell.case for cell in line.cells] == TUNING
    assert line.cells[0].settings == (("mode", "pnp"), ("guidance_scale", 3.0))
    assert line.shown == ["pnp", "guidance_scale, guidance", "3.0, propagated"]
    assert Line("pnp", (("guidance", "propagated"),)).shown == ["pnp", "guidance", "**propagated**"]
