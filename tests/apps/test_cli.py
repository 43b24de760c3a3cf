"""The command line as a user meets it: exit status, results on stdout, and one line on stderr for an error."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import tokenflow
from tests.apps.conftest import status
from tests.tiny import moving_square, save_tiny_model
from tokenflow.apps.cli import main
from tokenflow.config import Config, load_config
from tokenflow.errors import TokenflowError
from tokenflow.events import Listener
from tokenflow.video import VideoWriter, read_frames

COMMANDS = ["preprocess", "edit", "init", "batch", "generate", "config", "settings", "doctor", "schema"]


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("--help") == 0
    shown = capsys.readouterr().out
    for command in COMMANDS:
        assert command in shown
    assert "--traceback" in shown


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status(command, "--help") == 0
    assert f"tokenflow {command}" in capsys.readouterr().out.partition("Examples:")[2]


def test_version_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("--version") == 0
    captured = capsys.readouterr()
    assert captured.out == f"tokenflow {tokenflow.__version__}\n"
    assert captured.err == ""


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["nonsense"], "nonsense"),
        (["edit"], "CONFIG"),
        (["edit", "x.yaml", "--bogus"], "--bogus"),
        (["generate", "model"], "PROMPT"),
        (["generate", "model", "a dog", "--size", "512"], "WIDTHxHEIGHT"),
        (["generate", "model", "a dog", "--count", "0"], "--count"),
    ],
)
def test_an_invalid_command_line_is_status_2_and_names_the_word(
    arguments: list[str], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*arguments) == 2
    captured = capsys.readouterr()
    assert name in captured.err
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
def test_a_setting_written_as_an_option_gets_a_hint(
    words: list[str], meant: str, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("edit", settings, *words) == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"settings are given without dashes: {meant}"


@pytest.mark.parametrize(
    "words", [("edit", "x.yaml", "--edit"), ("edit", "x.yaml", "--bogus"), ("generate", "model", "a dog", "--frames")]
)
def test_an_option_that_is_no_setting_of_its_command_gets_no_hint(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(*words) == 2
    assert "without dashes" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["preprocess", "edit", "config"])
def test_a_missing_configuration_is_one_line_on_stderr_and_status_2(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert status(command, "nothing-here.yaml") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        f"error: configuration file 'nothing-here.yaml' not found in {tmp_path}; see configs/ for examples\n"
    )


@pytest.mark.parametrize(
    ("wrong", "right"), [("edit.yml", "edit.yaml"), ("edit.yaml", "edit.yml"), ("edit", "edit.yaml")]
)
def test_the_other_extension_of_yaml_is_suggested_where_there_is_such_a_file(
    wrong: str, right: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / right).touch()
    assert status("edit", wrong) == 2
    assert capsys.readouterr().err.endswith(f"; did you mean {right}?\n")


@pytest.mark.parametrize("command", ["preprocess", "edit", "config"])
def test_a_matrix_is_sent_to_batch(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "matrix.yaml"
    path.write_text("clips: {dog: {path: dog.mp4}}\nedits: {tiger: {prompt: a tiger}}\n")
    assert status(command, str(path)) == 2
    assert f"run `tokenflow batch {path}`" in capsys.readouterr().err


def test_all_mistakes_in_the_settings_are_listed_in_one_line(settings: str, capsys: pytest.CaptureFixture[str]) -> None:
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


@pytest.mark.parametrize("missing", ["clip.path=gone.mp4", "model.path=./gone"])
def test_what_is_missing_leaves_no_empty_output_folder(
    missing: str, settings: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with VideoWriter(tmp_path / "clip.mp4", width=24, height=16, rate=10) as video:
        video.write(moving_square(1)[0])
    monkeypatch.chdir(tmp_path)
    assert status("edit", settings, missing, "output.dir=outputs/new", "--quiet") == 2
    assert f" in {tmp_path}" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "config.yaml"]


def test_settings_reach_the_package(settings: str, replace_run: Callable[[Callable[..., Any]], None]) -> None:
    configs: list[Config] = []

    def run(config: Config, *, on_event: Listener) -> None:
        configs.append(config)
        raise TokenflowError("enough")

    replace_run(run)
    overrides = ["edit.steps=30", "edit.prompt=a golden tiger, 3d style"]
    assert status("edit", settings, *overrides) == 2
    assert configs == [load_config(settings, overrides)]
    assert configs[0].edit.steps == 30


def test_config_prints_yaml_that_loads_back_to_the_same(
    settings: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("config", settings, "edit.seed=7", "edit.prompt=a “golden” tiger, 3d style – 虎") == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    printed = tmp_path / "printed.yaml"
    printed.write_text(captured.out, encoding="utf-8")
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


def test_schema_is_json_with_the_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("schema") == 0
    content = json.loads(capsys.readouterr().out)
    assert {"clip", "model", "inversion", "edit", "output"} <= set(content["properties"])


@pytest.fixture
def material(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """A folder with a model and a clip of two frames."""
    save_tiny_model(tmp_path / "model")
    with VideoWriter(tmp_path / "clip.mp4", width=24, height=16, rate=10) as video:
        for image in moving_square(2):
            video.write(image)
    capsys.readouterr()  # what saving prints
    return tmp_path


@pytest.mark.usefixtures("material")
def test_both_stages_print_their_results_and_draw_bars_unless_quiet(
    settings: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [settings, "clip.size=16", "inversion.steps=2", "inversion.warn_below_psnr=0", "edit.steps=2"]
    assert status("preprocess", *arguments, "--quiet") == 0
    shown = capsys.readouterr()
    assert "dB PSNR" in shown.out
    assert str(tmp_path / "trajectories") in shown.out
    assert shown.err == ""
    assert status("edit", *arguments) == 0
    shown = capsys.readouterr()
    assert re.search(r"edit: 100%.* 2/2 .*step", shown.err)
    assert re.search(r"decode: 100%.* 2/2 .*frame", shown.err)
    results = dict(re.findall(r"^(\w[\w ]*?)  +(.*)$", shown.out, re.MULTILINE))
    files = ["edited", "comparison", "contact sheet", "report"]
    assert list(results) == [
        "verdict",
        "autoencoder",
        "reconstruction",
        "warp error",
        "detail",
        "change",
        "time",
        *files,
    ]
    assert re.fullmatch(r"[\d.]+ \(reconstruction [\d.]+, source [\d.e-]+\) × 10⁻³", results["warp error"])
    assert re.fullmatch(r"\d+ s", results["time"])
    assert len(list(read_frames(results["edited"]))) == len(list(read_frames(results["comparison"]))) == 2
    assert all(Path(results[name]).is_file() for name in files)


@pytest.mark.usefixtures("material")
def test_results_that_are_switched_off_are_not_printed(settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    off = ["output.comparison=false", "output.contact_sheet=false", "output.page=false", "inversion.check=false"]
    arguments = [settings, "clip.size=16", "inversion.steps=2", "edit.steps=2", *off, "--quiet"]
    assert status("preprocess", *arguments) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == ["frames", "inversion"]
    assert Path(shown[1].split()[1]).is_dir()
    assert status("edit", *arguments, "metrics.enabled=false") == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown] == ["time", "edited"]


@pytest.mark.usefixtures("material")
def test_several_seeds_give_an_image_and_no_result(
    settings: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [settings, "clip.size=16", "inversion.steps=2", "inversion.check=false", "edit.steps=2", "--quiet"]
    assert status("edit", *arguments, "edit.variation=0.5", "--seeds", "2") == 0
    assert capsys.readouterr().out == f"seeds           {tmp_path / 'out' / 'seeds.png'}\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["seeds.png"]


@pytest.mark.usefixtures("material")
def test_a_trial_gives_an_image_and_no_result(
    settings: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [settings, "clip.size=16", "inversion.steps=2", "edit.steps=2", "--quiet"]
    assert status("edit", *arguments, "--try", "2") == 0
    assert capsys.readouterr().out == f"trial           {tmp_path / 'out' / 'trial.png'}\n"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["trial.png"]


@pytest.fixture
def matrix(material: Path) -> str:
    """A clip with two edits, the second with more steps than the model was trained with."""
    content = {
        "clips": {"dog": {"path": str(material / "clip.mp4"), "prompt": "a dog", "size": 16}},
        "edits": {"tiger": {"prompt": "a tiger", "steps": 2}, "lion": {"prompt": "a lion", "steps": 5000}},
        "model": {"path": str(material / "model"), "device": "cpu"},
        "inversion": {"steps": 2, "warn_below_psnr": 90},
        "output": {"dir": str(material / "out")},
        "trajectories": {"dir": str(material / "trajectories")},
    }
    path = material / "matrix.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)


def test_a_batch_prints_a_table_with_warnings_and_reasons_of_failure_and_is_status_1(
    matrix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["batch", matrix, "--run-dir", str(tmp_path / "run"), "--quiet"]
    assert status(*arguments) == 1
    shown = capsys.readouterr()
    assert shown.err == ""
    first, warning, second, *_ = shown.out.splitlines()
    assert first.startswith("done")
    assert warning.strip().startswith("warning: the autoencoder alone reaches")
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
    assert "of disk space" in lines[-1]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_batch_that_cannot_start_is_one_line_and_status_2(
    settings: str, matrix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("batch", settings, settings, matrix, "clip.path=gone.mp4", "--quiet") == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: 2 jobs have the output directory")
    assert f"there is no clip at gone.mp4 in {Path.cwd()}" in shown.err
    assert shown.err.count("\n") == 1


def test_main_without_arguments_takes_those_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["tokenflow", "--version"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("tokenflow ")
