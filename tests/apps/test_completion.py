"""Completion in bash, by the script that `tokenflow --show-completion` prints."""

import os
import subprocess
import sys

import pytest


def completed(*words: str) -> list[str]:
    """What bash is offered for a command line whose last word is being typed."""
    environment = os.environ | {
        "_TOKENFLOW_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    result = subprocess.run(
        [sys.executable, "-m", "tokenflow"], env=environment, capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    return result.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [(("tokenflow", "se"), ["serve", "settings"]), (("tokenflow", "edit", "--fr"), ["--from"])],
)
def test_bash_completes_commands_and_options(words: tuple[str, ...], offered: list[str]) -> None:
    assert completed(*words) == offered
