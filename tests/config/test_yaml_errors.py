"""Sentences that YAML misreads: the error says to put them in quotes, and how."""

from pathlib import Path

import pytest
import yaml

from tokenflow.config import load_config
from tokenflow.errors import ConfigError

START = "clip: {path: a.mp4, prompt: a dog}\nmodel: {path: m}\noutput: {dir: o}\n"
MISREAD = [
    ("edit:\n  prompt: a tiger: striped", "a tiger: striped"),
    ("edit:\n  prompt: [x], y", "[x], y"),
    ("edit:\n  prompt: {x} y", "{x} y"),
    ("edit:\n  negative_prompt: 'a dog's life'", "a dog's life"),
    ('edit:\n  prompt: "a tiger" on grass', '"a tiger" on grass'),
    ("edit:\n  prompt: @tiger", "@tiger"),
    ("edit:\n  prompt: *tiger", "*tiger"),
    ("edit:\n  prompt: - a tiger", "- a tiger"),
    ("edit: {prompt: a tiger: striped, steps: 5}", "a tiger: striped"),
    ("edit: {steps: 5, prompt: [x] y}", "[x] y"),
]


@pytest.mark.parametrize(("text", "sentence"), MISREAD)
def test_the_error_shows_the_sentence_in_quotes(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"{START}{text}\n", encoding="utf-8")
    with pytest.raises(
        ConfigError, match=r"a\.yaml, line [45], column \d+: .*; put the sentence in quotes: "
    ) as caught:
        load_config(path, environment={})
    key, remedy = str(caught.value).partition("; put the sentence in quotes: ")[2].split(": ", 1)
    assert yaml.safe_load(f"{key}: {remedy}") == {key: sentence}
    assert key in ("prompt", "negative_prompt")


@pytest.mark.parametrize("text", ["edit:\n prompt: a\n  steps: 5", "edit: {prompt: a", "edit:\n\tprompt: a"])
def test_other_mistakes_give_no_such_advice(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{START}{text}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"a\.yaml, line \d, column \d+: [^;]+$"):
        load_config(tmp_path / "a.yaml", environment={})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("edit:\n  prompt: [a tiger]", r"edit\.prompt: expected a string: put it in quotes, got \['a tiger'\]"),
        ("edit:\n  prompt: 10:30", r"edit\.prompt: expected a string: put it in quotes, got 630"),
        ("edit: {prompt: a tiger, on grass}", r"edit\.on grass: unknown; .*; if it belongs to a sentence, put that in"),
    ],
)
def test_what_yaml_takes_for_another_value_needs_quotes_too(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{START}{text}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "a.yaml", environment={})
