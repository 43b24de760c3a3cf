"""Bars, notices and warnings on standard error, as a terminal shows them."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
from huggingface_hub import utils as hub

from tests.apps.conftest import status
from tokenflow.errors import TokenflowError, TokenflowWarning
from tokenflow.events import Listener, Notice, Progress

ReplaceRun = Callable[[Callable[..., Any]], None]


def screen(text: str) -> list[str]:
    """The lines of a terminal after some output, of which it knows line feed and carriage return."""
    lines = [""]
    column = 0
    for character in text:
        if character == "\n":
            lines.append("")
            column = 0
        elif character == "\r":
            column = 0
        else:
            lines[-1] = lines[-1][:column].ljust(column) + character + lines[-1][column + 1 :]
            column += 1
    return [line.rstrip() for line in lines]


def noticing(*_: Any, on_event: Listener) -> None:
    """An edit with notices before, in and after a stage."""
    on_event(Notice("before"))
    for done in range(3):
        on_event(Progress("invert", done, 2))
        on_event(Notice(f"at {done}; do that"))
    for done in range(5):
        on_event(Progress("decode", done, 4))
    raise TokenflowError("enough")


def test_notices_are_on_lines_of_their_own_above_the_bar(
    settings: str, replace_run: ReplaceRun, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_run(noticing)
    assert status("edit", settings) == 2
    *notices, inverted, decoded, error, end = screen(capsys.readouterr().err)
    assert notices == [f"warning: {text}" for text in ("before", "at 0; do that", "at 1; do that", "at 2; do that")]
    assert inverted.startswith("invert: 100%|")
    assert "step" in inverted
    assert decoded.startswith("decode: 100%|")
    assert "frame" in decoded
    assert (error, end) == ("error: enough", "")


def test_quiet_prints_notices_and_no_bars(
    settings: str, replace_run: ReplaceRun, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_run(noticing)
    assert status("edit", settings, "--quiet") == 2
    assert capsys.readouterr().err.splitlines() == [
        *(f"warning: {text}" for text in ("before", "at 0; do that", "at 1; do that", "at 2; do that")),
        "error: enough",
    ]


@pytest.mark.parametrize("quiet", [False, True])
def test_downloads_draw_bars_unless_quiet(quiet: bool, settings: str, replace_run: ReplaceRun) -> None:
    drawn: list[bool] = []

    def run(*_: Any, **__: Any) -> None:
        drawn.append(not hub.are_progress_bars_disabled())
        raise TokenflowError("enough")

    replace_run(run)
    assert status("edit", settings, *["--quiet"] * quiet) == 2
    assert drawn == [not quiet]
    assert not hub.are_progress_bars_disabled()


def test_what_a_stage_works_on_is_in_its_bar(
    settings: str, replace_run: ReplaceRun, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: Any, on_event: Listener) -> None:
        on_event(Progress("load", 0, 1, label="model on cpu, float32"))
        on_event(Progress("load", 1, 1, label="model on cpu, float32"))
        raise TokenflowError("enough")

    replace_run(run)
    assert status("edit", settings) == 2
    loaded, error, _ = screen(capsys.readouterr().err)
    assert loaded.startswith("load model on cpu, float32: 100%|")
    assert error == "error: enough"


@pytest.mark.filterwarnings("default")
def test_our_warnings_are_one_line_and_those_of_libraries_are_hidden(
    settings: str, replace_run: ReplaceRun, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*_: Any, **__: Any) -> None:
        warnings.warn("this will disappoint; do that", TokenflowWarning, stacklevel=1)
        warnings.warn("for developers", FutureWarning, stacklevel=1)
        raise TokenflowError("and then it failed")

    replace_run(run)
    before = warnings.showwarning
    assert status("edit", settings) == 2
    assert capsys.readouterr().err == "warning: this will disappoint; do that\nerror: and then it failed\n"
    assert warnings.showwarning is before
