"""Ctrl-C while a command is still importing modules."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
PRESS = """
import runpy, signal, sys

class Press:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Press())
"""
COMMANDS = {
    "run_preprocess.py": "runpy.run_path('run_preprocess.py', run_name='__main__')",
    "run_edit.py": "runpy.run_path('run_edit.py', run_name='__main__')",
    "python -m tokenflow": "runpy.run_module('tokenflow', run_name='__main__')",
    "tokenflow": "import tokenflow.__main__; tokenflow.__main__.main()",
}


@pytest.mark.parametrize("module", ["tokenflow.apps.cli", "tokenflow.errors", "typer", "typer.core", "omegaconf"])
@pytest.mark.parametrize("command", COMMANDS)
def test_ctrl_c_is_status_130_and_no_traceback_from_the_first_import_on(command: str, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRESS + COMMANDS[command], module],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")
