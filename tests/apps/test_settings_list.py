"""`tokenflow settings`: all settings, or those with a word in them."""

import pytest

from tests.apps.conftest import status
from tokenflow.config import Config
from tokenflow.config.reference import all_settings


def test_every_setting_is_listed_with_values_default_and_description(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("settings") == 0
    shown = capsys.readouterr().out
    words = " ".join(shown.split())
    for setting in all_settings(Config):
        assert f"\n{setting.key}: " in f"\n{shown}"
        assert setting.description in words
    assert "edit.mode: pnp, sdedit, controlnet, flowedit, keyframes, instruct; default pnp\n" in shown
    assert "clip.path: path; required\n" in shown
    assert max(map(len, shown.splitlines())) <= 130


@pytest.mark.parametrize(
    ("word", "keys"),
    [
        ("edit.sdedit", ["edit.sdedit.strength", "edit.sdedit.noise"]),
        ("Canny", ["edit.controlnet.path", "edit.controlnet.detector", "edit.controlnet.canny_thresholds"]),
        ("prores", ["clip.background", "output.codec", "output.quality"]),
    ],
)
def test_a_word_chooses_settings_by_name_values_and_description(
    word: str, keys: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("settings", word) == 0
    shown = capsys.readouterr().out
    assert [line.partition(":")[0] for line in shown.splitlines() if line and line[0] != " "] == keys


def test_a_word_that_no_setting_has_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert status("settings", "colour of the sky") == 2
    assert capsys.readouterr().err == (
        "error: no setting has 'colour of the sky' in its name or description; `tokenflow settings` lists all\n"
    )
