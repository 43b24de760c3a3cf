"""Words that are neither settings nor files are answered with the quotes that were forgotten."""

from pathlib import Path

import pytest

from tests.apps.conftest import status


@pytest.mark.parametrize("command", ["preprocess", "edit", "config"])
def test_a_value_without_quotes_is_shown_with_them(
    command: str, settings: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status(command, settings, "edit.prompt=a", "tiger", "on", "grass", "edit.steps=4") == 2
    assert capsys.readouterr().err == (
        "error: expected key=value, got 'tiger on grass'; quote a value that has spaces: "
        '"edit.prompt=a tiger on grass"\n'
    )


def test_a_prompt_without_its_key_is_shown_with_it(settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("edit", settings, "a tiger") == 2
    assert 'for a prompt, write "edit.prompt=a tiger"' in capsys.readouterr().err


def test_a_batch_takes_files_after_settings_but_no_other_words(
    settings: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("batch", settings, "edit.prompt=a", "tiger", "--run-dir", str(tmp_path / "run")) == 2
    assert 'quote a value that has spaces: "edit.prompt=a tiger"' in capsys.readouterr().err
    assert status("batch", "edit.prompt=a", settings, "--run-dir", str(tmp_path / "run")) == 2
    assert "there is no clip at" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
