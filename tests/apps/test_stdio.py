"""What is said has no say in the work: streams that are full, closed, or that nobody reads."""

import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import tokenflow
from tokenflow.apps.cli import main
from tokenflow.errors import TokenflowWarning
from tokenflow.events import track

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no full device")


def ended(redirections: str, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line, run by a shell with these redirections."""
    shell = ["sh", "-c", f'"$@" {redirections}', "sh", sys.executable, "-m", "tokenflow", *words]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(shell, capture_output=True, encoding="utf-8", check=False, env=environment)


@pytest.fixture
def settings(tmp_path: Path) -> str:
    content = {
        "clip": {"path": "clip.mp4", "prompt": "a dog"},
        "model": {"path": "model"},
        "edit": {"prompt": "a tiger"},
        "output": {"dir": "out"},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize("redirection", [pytest.param("2>/dev/full", marks=needs_full), "2>&-"])
@pytest.mark.parametrize("words", [("config", "nope.yaml"), ("nonsense",)])
def test_an_error_has_its_status_though_it_cannot_be_told(redirection: str, words: tuple[str, ...]) -> None:
    result = ended(redirection, *words)
    assert result.returncode == 2
    assert result.stdout == ""


@needs_full
@pytest.mark.filterwarnings("default")
def test_an_edit_is_done_though_bars_and_warnings_cannot_be_drawn(
    settings: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def edit(*_: Any, **__: Any) -> SimpleNamespace:
        warnings.warn("this will disappoint; do that", TokenflowWarning, stacklevel=1)
        assert list(track(range(3), "edit", unit="step", progress=True)) == [0, 1, 2]
        return SimpleNamespace(video="a", comparison="b", contact_sheet="c", page="d")

    monkeypatch.setattr(tokenflow, "edit", edit)
    with FULL.open("w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        with pytest.raises(SystemExit) as end:
            main(["edit", settings])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("edited          a\n")


@needs_full
def test_bars_that_cannot_be_drawn_stop_no_loop_of_the_package_either(monkeypatch: pytest.MonkeyPatch) -> None:
    full = FULL.open("w")
    for stream in (full, None):
        monkeypatch.setattr(sys, "stderr", stream)
        assert list(track(range(3), "edit", unit="step", progress=True)) == [0, 1, 2]
    with pytest.raises(OSError, match="No space"):  # there was something to draw
        full.close()


@needs_full
@pytest.mark.parametrize("words", [("--help",), ("edit", "--help"), ("schema",)])
def test_what_was_asked_for_and_cannot_be_written_is_one_line_and_status_2(words: tuple[str, ...]) -> None:
    result = ended(">/dev/full", *words)
    assert result.returncode == 2
    assert result.stderr.startswith("error: standard output cannot be written (No space left on device); ")
    assert result.stderr.count("\n") == 1
    assert ended(">/dev/full 2>/dev/full", *words).returncode == 2


def test_a_reader_who_goes_away_has_seen_enough() -> None:
    for words in ("schema", "--help"):
        command = [sys.executable, "-m", "tokenflow", words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout
            assert process.stderr
            process.stdout.close()
            assert process.stderr.read() == b""
        assert process.returncode == 0


def test_closed_streams_are_as_quiet_as_the_null_device(settings: str) -> None:
    result = ended("<&- >&- 2>&-", "config", settings)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    script = (
        "import sys; from tokenflow.apps.stdio import standard_streams\n"
        "with standard_streams(), open(sys.argv[1], 'w') as file: file.write(str(file.fileno()))"
    )
    shell = ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", sys.executable, "-c", script, str(tmp_path / "file")]
    subprocess.run(shell, check=True)
    assert int((tmp_path / "file").read_text()) > 2


def test_a_sentence_that_standard_output_has_no_letters_for_is_one_line_and_status_2(settings: str) -> None:
    words = [sys.executable, "-m", "tokenflow", "config", settings, "edit.prompt=虎"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    result = subprocess.run(words, capture_output=True, encoding="utf-8", check=False, env=environment)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        "error: standard output cannot be written (its encoding, ascii, has no '\\u864e'); all else is done: "
        "set PYTHONIOENCODING=utf-8\n"
    )
