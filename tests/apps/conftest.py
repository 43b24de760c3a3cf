"""A configuration, and the command line run in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import tokenflow
from tokenflow.apps.cli import main


def status(*arguments: str) -> int | str | None:
    """The exit status of a command line."""
    with pytest.raises(SystemExit) as end:
        main(list(arguments))
    return end.value.code


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


@pytest.fixture
def replace_run(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Replaces the package's `run`, which the command `edit` calls."""
    return lambda function: monkeypatch.setattr(tokenflow, "run", function)
