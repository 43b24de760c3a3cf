"""The package on a system that is like Windows: Linux without what Windows lacks. Windows itself runs nothing here.

There is no fcntl, grp, pwd and resource, no os.fork, os.pread and os.pwrite. Processes are spawned. An open file can be
neither deleted nor replaced, and a temporary file has a name. Text is UTF-8 only where the code asks for it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

WITHOUT_PLUGINS = ["-p", "no:cacheprovider", "-p", "no:schemathesis"]
"""Options of pytest: without a cache in the project, and without a plugin that takes seconds to import."""

pytestmark = [
    pytest.mark.portability,
    pytest.mark.skipif(sys.platform != "linux", reason="takes from Linux what Windows lacks"),
]


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE / "windows"), str(ROOT)]),
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONIOENCODING": "cp1252",
        "LC_ALL": "C",
    }
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, encoding="cp1252"
    )


@pytest.mark.parametrize(
    ("code", "error"),
    [
        *((f"import {module}", "ModuleNotFoundError") for module in ("fcntl", "grp", "pwd", "resource")),
        *((f"import os; os.{function}", "AttributeError") for function in ("fork", "pread", "pwrite")),
        ("import pathlib; pathlib.Path('a').write_text('虎')", "UnicodeEncodeError"),
        ("import os; file = open('a', 'w'); os.unlink('a')", "PermissionError"),
        ("import os; open('a', 'w'); file = open('b', 'w'); os.replace('a', 'b')", "PermissionError"),
        ("import os; file = open('a', 'w'); os.replace('a', 'b')", "PermissionError"),
        ("import os; os.mkdir('a'); file = open('a/b', 'w'); os.rename('a', 'b')", "PermissionError"),
        ("import os, tempfile; file = tempfile.TemporaryFile(dir='.'); os.rmdir('.')", "OSError"),
        ("import multiprocessing; assert multiprocessing.get_start_method() != 'spawn'", "AssertionError"),
    ],
)
def test_what_windows_lacks_is_lacking(code: str, error: str, tmp_path: Path) -> None:
    said = run("-c", code, folder=tmp_path).stderr
    assert said.splitlines()[-1].startswith(error), said


def test_every_module_can_be_imported(tmp_path: Path) -> None:
    code = (
        "import importlib, pkgutil, tokenflow\n"
        "for module in pkgutil.walk_packages(tokenflow.__path__, 'tokenflow.'):\n"
        "    if not module.name.endswith(('__main__', 'migrations.env')):\n"  # scripts; Alembic runs the latter
        "        importlib.import_module(module.name)\n"
        "        print(module.name)\n"
    )
    done = run("-c", code, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert {"tokenflow.store.results", "tokenflow.batch.ray", "tokenflow.apps.cli"} <= set(done.stdout.split())


def test_every_test_can_be_collected(tmp_path: Path) -> None:
    done = run("-m", "pytest", *WITHOUT_PLUGINS, "--collect-only", str(ROOT / "tests"), folder=ROOT)
    assert done.returncode == 0, done.stdout


def test_the_tests_of_the_store_pass(tmp_path: Path) -> None:
    """All but those that kill many processes: one of them is enough, since here each is spawned."""
    tests = [str(path) for path in HERE.glob("test_*.py") if path != Path(__file__)]
    options = [*WITHOUT_PLUGINS, "--basetemp", str(tmp_path / "tests")]
    options += ["-k", "not test_a_first_result and not test_an_interrupted_move"]
    done = run("-m", "pytest", *options, *tests, folder=ROOT)
    assert done.returncode == 0, done.stdout
