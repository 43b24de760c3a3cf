"""The command line as a user meets it: exit status, what goes to stdout, and one line on stderr."""

import json
import re
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import tokenflow
from tests.tiny import moving_square, save_tiny_model
from tokenflow.apps.cli import main
from tokenflow.config import Config, load_config
from tokenflow.errors import ModelError, ModelNotFoundError, TokenflowError, TokenflowWarning
from tokenflow.video import VideoWriter, read_frames


@pytest.fixture
def settings(tmp_path: Path) -> str:
    """A configuration whose clip and model do not exist."""
    content = {
        "clip": {"path": str(tmp_path / "clip.mp4"), "prompt": "a dog"},
        "model": {"path": str(tmp_path / "model"), "device": "cpu"},
        "edit": {"prompt": "a tiger"},
        "output": {"dir": str(tmp_path / "out")},
        "trajectories": {"dir": str(tmp_path / "trajectories")},
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(content))
    return str(path)


def status(*arguments: str) -> int | str | None:
    """The exit status of a command line."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return end.value.code


def replaced(monkeypatch: pytest.MonkeyPatch, raises: BaseException) -> None:
    """Let the package's `edit` raise."""

    def edit(*_: Any, **__: Any) -> None:
        raise raises

    monkeypatch.setattr(tokenflow, "edit", edit)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("--help") == 0
    shown = capsys.readouterr().out
    for command in ("preprocess", "edit", "config", "schema"):
        assert command in shown
    assert "--traceback" in shown


@pytest.mark.parametrize("command", ["preprocess", "edit", "config", "schema"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(command, "--help") == 0
    assert command in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "names"),
    [(["nonsense"], "nonsense"), (["edit"], "CONFIG"), (["edit", "x.yaml", "--bogus"], "--bogus")],
)
def test_a_command_line_that_is_not_understood_is_status_2_and_names_the_word(
    arguments: list[str], names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*arguments) == 2
    captured = capsys.readouterr()
    assert names in captured.err
    assert captured.out == ""
    assert "Traceback" not in captured.err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--steps", "5"], "inversion.steps=… or edit.steps=…"),
        (["--edit.steps=5"], "edit.steps=…"),
        (["--edit-negative-prompt", "rain"], "edit.negative_prompt=…"),
        (["--guidance_scal=3"], "edit.guidance_scale=…"),
    ],
)
def test_a_setting_that_is_written_as_an_option_is_told_apart(
    words: list[str], meant: str, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("edit", settings, *words) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"settings are given without dashes: {meant}"
    assert status("edit", settings, "--edit", "--bogus") == 2
    assert "without dashes" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["preprocess", "edit", "config"])
def test_a_missing_configuration_is_one_line_on_stderr_and_status_2(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(command, "nothing-here.yaml") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "error: configuration file 'nothing-here.yaml' not found; see configs/ for examples\n"


def test_mistakes_in_the_settings_come_all_at_once_in_one_line(
    settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("edit", settings, "edit.stesp=3", "edit.guidance_scale=0.1") == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "did you mean edit.steps?" in shown
    assert "edit.guidance_scale" in shown


@pytest.mark.parametrize("command", ["preprocess", "edit"])
def test_a_missing_clip_is_one_line_and_leaves_nothing_behind(
    command: str, settings: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tiny_model(tmp_path / "model")
    capsys.readouterr()  # what saving prints
    assert status(command, settings, "--quiet") == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    assert "there is no clip at" in shown
    assert "clip.mp4" in shown
    assert "output.dir" not in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "model"]


def test_with_traceback_the_error_itself_comes_out(settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--traceback", "edit", settings], ["edit", settings, "--traceback"]):
        with pytest.raises(TokenflowError):
            main([*arguments, "--quiet"])
        assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [TokenflowError("what came; what to do"), ModelNotFoundError("no model; set it")])
def test_our_errors_are_their_message(
    error: TokenflowError, settings: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replaced(monkeypatch, error)
    assert status("edit", settings) == 2
    assert capsys.readouterr().err == f"error: {error}\n"


def test_a_mistake_of_ours_is_not_hidden(settings: str, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced(monkeypatch, ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        main(["edit", settings])


def test_ctrl_c_is_status_130_and_says_that_work_is_kept(
    settings: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replaced(monkeypatch, KeyboardInterrupt())
    assert status("edit", settings) == 130
    shown = capsys.readouterr().err.strip()
    assert shown == "interrupted: what was finished is kept, and the same command goes on from there"


@pytest.mark.filterwarnings("default")
def test_our_warnings_are_one_line_and_those_of_libraries_are_not_shown(
    settings: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def edit(*_: Any, **__: Any) -> None:
        warnings.warn("this will disappoint; do that", TokenflowWarning, stacklevel=1)
        warnings.warn("for developers", FutureWarning, stacklevel=1)
        raise TokenflowError("and then it failed")

    monkeypatch.setattr(tokenflow, "edit", edit)
    shown_before = warnings.showwarning
    assert status("edit", settings) == 2
    assert capsys.readouterr().err == "warning: this will disappoint; do that\nerror: and then it failed\n"
    assert warnings.showwarning is shown_before


@pytest.mark.parametrize(("quiet", "progress"), [((), True), (("--quiet",), False)])
def test_settings_and_quiet_reach_the_package(
    quiet: tuple[str, ...], progress: bool, settings: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[Config, bool]] = []

    def edit(config: Config, *, progress: bool) -> None:
        calls.append((config, progress))
        raise TokenflowError("enough seen")

    monkeypatch.setattr(tokenflow, "edit", edit)
    assert status("edit", settings, "edit.steps=30", "edit.prompt=a golden tiger, 3d style", *quiet) == 2
    ((config, progress_given),) = calls
    assert config == load_config(settings, ["edit.steps=30", "edit.prompt=a golden tiger, 3d style"])
    assert config.edit.steps == 30
    assert progress_given is progress


def test_config_prints_yaml_that_loads_back_to_the_same(
    settings: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("config", settings, "edit.seed=7", "edit.prompt=a “golden” tiger, 3d style – 虎") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    printed = tmp_path / "printed.yaml"
    printed.write_text(captured.out)
    config = load_config(printed)
    assert config == load_config(settings, ["edit.seed=7", "edit.prompt=a “golden” tiger, 3d style – 虎"])
    assert config.edit.seed == 7


def test_the_environment_is_between_the_file_and_the_command_line(
    settings: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOKENFLOW_EDIT__STEPS", "30")
    monkeypatch.setenv("TOKENFLOW_EDIT__SEED", "5")
    assert status("config", settings, "edit.seed=7") == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["edit"]["steps"] == 30
    assert printed["edit"]["seed"] == 7


def test_schema_is_json_that_knows_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("schema") == 0
    content = json.loads(capsys.readouterr().out)
    assert {"clip", "model", "inversion", "edit", "output"} <= set(content["properties"])


def test_both_stages_end_with_status_0_and_print_where_the_results_are(
    settings: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tiny_model(tmp_path / "model")
    with VideoWriter(tmp_path / "clip.mp4", width=24, height=16, rate=10) as video:
        for picture in moving_square(2):
            video.write(picture)
    capsys.readouterr()  # what saving prints
    arguments = [settings, "clip.size=16", "inversion.steps=2", "inversion.warn_below_psnr=0", "edit.steps=2"]
    assert status("preprocess", *arguments, "--quiet") == 0
    shown = capsys.readouterr()
    assert "dB PSNR" in shown.out
    assert str(tmp_path / "trajectories") in shown.out
    assert shown.err == ""
    assert status("edit", *arguments, "--quiet") == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    places = dict(
        line.split(maxsplit=1) for line in shown.out.splitlines() if line.startswith(("edited", "comparison"))
    )
    assert len(list(read_frames(places["edited"]))) == 2
    assert len(list(read_frames(places["comparison"]))) == 2
    assert (tmp_path / "out" / "contact_sheet.png").is_file()


def test_ctrl_c_is_told_as_that_though_a_library_makes_an_error_of_it(
    settings: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def edit(*_: object, **__: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt as error:
            raise ModelError("the weights cannot be read") from error

    monkeypatch.setattr(tokenflow, "edit", edit)
    assert status("edit", settings) == 130
    assert "interrupted" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("command", ["config", "edit"])
def test_what_cannot_be_said_is_one_line_and_status_2(
    command: str, settings: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    result = SimpleNamespace(video="a", comparison="b", contact_sheet="c", page="d")
    monkeypatch.setattr(tokenflow, "edit", lambda *_, **__: result)
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert status(command, settings) == 2
    assert re.fullmatch(
        r"error: standard output cannot be written \(No space left on device\); [^\n]+\n", capfd.readouterr().err
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_a_process_that_cannot_say_something_ends_without_a_traceback(settings: str) -> None:
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "tokenflow", "config", settings]
        ended = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 2
    assert re.fullmatch(r"error: [^\n]+\n", ended.stderr)


@pytest.fixture
def matrix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """A clip with two edits, the second with more steps than the model was trained with."""
    save_tiny_model(tmp_path / "model")
    with VideoWriter(tmp_path / "clip.mp4", width=24, height=16, rate=10) as video:
        for picture in moving_square(2):
            video.write(picture)
    content = {
        "clips": {"dog": {"path": str(tmp_path / "clip.mp4"), "prompt": "a dog", "size": 16}},
        "edits": {"tiger": {"prompt": "a tiger", "steps": 2}, "lion": {"prompt": "a lion", "steps": 5000}},
        "model": {"path": str(tmp_path / "model"), "device": "cpu"},
        "inversion": {"steps": 2, "warn_below_psnr": 0},
        "output": {"dir": str(tmp_path / "out")},
        "trajectories": {"dir": str(tmp_path / "trajectories")},
    }
    path = tmp_path / "matrix.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    capsys.readouterr()  # what saving prints
    return str(path)


def test_a_batch_ends_with_a_table_of_what_failed_and_why_and_status_1(
    matrix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["batch", matrix, "--run-dir", str(tmp_path / "run"), "--quiet"]
    assert status(*arguments) == 1
    shown = capsys.readouterr()
    assert shown.err == ""
    first, second, *_ = shown.out.splitlines()
    assert first.startswith("done")
    assert second.startswith("failed")
    assert "steps is 5000; expected 1 to 1000" in second
    assert "2 jobs: 1 done, 1 failed" in shown.out
    assert (tmp_path / "run" / "index.html").is_file()
    assert status(*arguments, "edit.steps=2") == 0
    assert "2 jobs: 2 done" in capsys.readouterr().out


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    matrix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert status("batch", matrix, "--run-dir", str(tmp_path / "run"), "--dry-run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["edit", str(tmp_path / "out" / "dog-tiger"), "new"]
    assert lines[1].split() == ["edit", str(tmp_path / "out" / "dog-lion"), "shared"]
    assert "of disk" in lines[-1]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_batch_that_cannot_begin_is_one_line_and_status_2(
    settings: str, matrix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("batch", settings, settings, matrix, "clip.path=gone.mp4", "--quiet") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: 2 jobs have the output directory")
    assert "there is no clip at gone.mp4" in shown.err
    assert shown.err.count("\n") == 1
