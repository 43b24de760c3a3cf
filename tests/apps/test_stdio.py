"""Commands whose standard streams are full, closed, or without a reader: the work and its exit status stay the same."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.apps.conftest import status
from tokenflow.events import Listener, Notice, Progress, TerminalBars

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no full device")
needs_shell = pytest.mark.skipif(os.name == "nt", reason="redirects with a POSIX shell")

RESULT = SimpleNamespace(
    video="a",
    comparison="b",
    region=None,
    contact_sheet="c",
    page="d",
    report={"metrics": {}, "seconds": {"edit": 2.0}},
)


def ended(redirections: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line, run by a shell with these redirections."""
    shell = ["sh", "-c", f'"$@" {redirections}', "sh", sys.executable, "-m", "tokenflow", *words]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(shell, capture_output=True, encoding="utf-8", check=False, env=environment)


@needs_shell
@pytest.mark.parametrize("redirection", [pytest.param("2>/dev/full", marks=needs_full), "2>&-"])
@pytest.mark.parametrize("words", [("config", "nope.yaml"), ("nonsense",)])
def test_an_error_keeps_its_status_where_its_message_cannot_be_written(
    redirection: str, words: tuple[str, ...]
) -> None:
    result = ended(redirection, *words)
    assert result.returncode == 2
    assert result.stdout == ""


@needs_full
def test_an_edit_succeeds_where_bars_and_notices_cannot_be_written(
    settings: str,
    replace_run: Callable[[Callable[..., Any]], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run(*_: Any, on_event: Listener) -> SimpleNamespace:
        for done in range(3):
            on_event(Progress("edit", done, 2))
            on_event(Notice("this will disappoint; do that"))
        return RESULT

    replace_run(run)
    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        assert status("edit", settings) == 0
    assert "edited         a\n" in capsys.readouterr().out


@needs_full
def test_bars_of_the_library_survive_a_full_and_a_missing_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    full = FULL.open("w")
    for stream in (full, None):
        monkeypatch.setattr(sys, "stderr", stream)
        with TerminalBars() as bars:
            for done in range(3):
                bars(Progress("edit", done, 2))
                bars(Notice("this will disappoint; do that"))
    with pytest.raises(OSError, match="No space"):  # there was something to draw
        full.close()


@needs_shell
@needs_full
@pytest.mark.parametrize("words", [("--help",), ("edit", "--help"), ("schema",)])
def test_output_that_cannot_be_written_is_one_line_and_status_2(words: tuple[str, ...]) -> None:
    result = ended(">/dev/full", *words)
    assert result.returncode == 2
    assert result.stderr.startswith("error: cannot write to standard output (No space left on device); ")
    assert result.stderr.count("\n") == 1
    assert ended(">/dev/full 2>/dev/full", *words).returncode == 2


@needs_full
def test_a_result_that_cannot_be_printed_is_one_line_and_status_2(
    settings: str,
    replace_run: Callable[[Callable[..., Any]], None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    replace_run(lambda *_, **__: RESULT)
    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert status("edit", settings) == 2
    assert re.fullmatch(
        r"error: cannot write to standard output \(No space left on device\); [^\n]+\n", capfd.readouterr().err
    )


@pytest.mark.parametrize("word", ["schema", "--help"])
def test_a_reader_that_closes_the_pipe_is_no_error(word: str) -> None:
    command = [sys.executable, "-m", "tokenflow", word]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


@needs_shell
def test_closed_streams_act_as_the_null_device(settings: str) -> None:
    result = ended("<&- >&- 2>&-", "config", settings)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


OPEN = "file = open(sys.argv[1], 'w'); file.write(str(file.fileno())); file.close()"
"""Writes the number of a file into it."""


@needs_shell
@pytest.mark.parametrize(
    "body",
    [OPEN, f'import subprocess; subprocess.run([sys.executable, "-c", "import sys; {OPEN}", sys.argv[1]])'],
    ids=["in this process", "in a worker"],
)
def test_no_file_gets_the_number_of_a_closed_stream(body: str, tmp_path: Path) -> None:
    script = f"import sys; from tokenflow.apps.stdio import standard_streams\nwith standard_streams():\n    {body}"
    shell = ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", sys.executable, "-c", script, str(tmp_path / "file")]
    subprocess.run(shell, check=True)
    assert int((tmp_path / "file").read_text()) > 2


def test_text_that_the_encoding_of_standard_output_lacks_is_one_line_and_status_2(settings: str) -> None:
    words = [sys.executable, "-m", "tokenflow", "config", settings, "edit.prompt=虎"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(words, capture_output=True, encoding="utf-8", check=False, env=environment)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        "error: cannot write to standard output (its encoding, ascii, lacks '\\u864e'); everything else is done: "
        "set PYTHONIOENCODING=utf-8\n"
    )
