"""Whose code and whose results a comparison takes."""

import subprocess
from pathlib import Path

import pytest

from tools import compare_edits


def git(repository: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(repository), *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits, tagged `first` and `second`, of a program that writes its commit's name as the edited video."""
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "-q")
    for name in ("first", "second"):
        write_program(folder, name)
        git(folder, "add", ".")
        git(folder, "commit", "-qm", name)
        git(folder, "tag", name)
    return folder


def write_program(folder: Path, says: str) -> None:
    lines = [
        "import sys; from pathlib import Path",
        "folder = Path(next(word for word in sys.argv if word.startswith('output.dir='))[11:])",
        "folder.mkdir(parents=True)",
        f"(folder / 'edited.mkv').write_text('{says}')",
    ]
    (folder / "run_edit.py").write_text("\n".join(lines), encoding="utf-8")


def test_each_call_compares_the_code_as_it_is_now_with_the_commit_that_is_named(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[str, str]] = []
    monkeypatch.setattr(compare_edits, "ROOT", repository)
    monkeypatch.setattr(
        compare_edits, "compare", lambda first, second: compared.append((first.read_text(), second.read_text())) or ""
    )

    def compare(commit: str) -> None:
        with pytest.raises(SystemExit) as ended:
            compare_edits.main([commit, "--configs", "dog", "--work", str(tmp_path / "work")])
        assert not ended.value.code

    compare("first")
    compare("second")
    write_program(repository, "changed")
    compare(git(repository, "rev-parse", "--short", "first"))
    assert compared == [("first", "second"), ("second", "second"), ("first", "changed")]
    theirs = {path.name for path in (tmp_path / "work").iterdir()} - {"ours"}
    assert theirs == {git(repository, "rev-parse", name) for name in ("first", "second")}
