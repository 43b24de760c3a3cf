"""tokenflow inversions: list, size and prune."""

import os
from pathlib import Path

import pytest

from tests.apps.conftest import status
from tests.store.test_listing import DAY, stored


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store of an old inversion and a new one that is unfinished."""
    stored(tmp_path / "old")
    stored(tmp_path / "new", complete=False)
    for path in (tmp_path / "old").iterdir():
        changed = path.stat().st_mtime - 40 * DAY
        os.utime(path, (changed, changed))
    return tmp_path


def test_list_shows_each_with_its_prompt_and_size_their_sum(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("inversions", "list", str(store)) == 0
    new, old = capsys.readouterr().out.splitlines()
    assert new.startswith(str(store / "new"))
    assert "unfinished  a dog" in new
    assert "25 steps  a dog" in old
    assert status("inversions", "size", str(store)) == 0
    assert capsys.readouterr().out.startswith("2 inversions, ")


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["--older-than", "30"], {"new"}),
        (["--older-than", "50"], {"new", "old"}),
        (["--unfinished"], {"old"}),
        (["--older-than", "30", "--unfinished"], set()),
        (["--older-than", "30", "--dry-run"], {"new", "old"}),
    ],
)
def test_prune_deletes_what_it_was_asked_to(options: list[str], left: set[str], store: Path) -> None:
    assert status("inversions", "prune", str(store), *options) == 0
    assert {path.name for path in store.iterdir()} == left


@pytest.mark.parametrize(
    ("options", "left"), [([], set()), (["--older-than", "30"], {"new"}), (["--dry-run"], {"new", "old"})]
)
def test_prune_deletes_flow_and_leaves_the_inversion(
    options: list[str], left: set[str], store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: {path.name for path in (store / name).iterdir()} for name in ("new", "old")}
    for name in before:
        written = (store / name / "manifest.json").stat().st_mtime
        (store / name / "flow_fields.pairs").write_bytes(bytes(1500))
        os.utime(store / name / "flow_fields.pairs", (written, written))
    assert status("inversions", "list", str(store)) == 0
    assert capsys.readouterr().out.count("(1.5 kB of it flow)") == 2
    assert status("inversions", "prune", str(store), "--flow", *options) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("kB")
    assert {name for name in before if (store / name / "flow_fields.pairs").exists()} == left
    for name, files in before.items():
        assert files <= {path.name for path in (store / name).iterdir()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune"], "say which inversions to delete: --older-than DAYS, --unfinished, or both; or --flow"),
        (["list", "nowhere"], "the folder nowhere was not found; inversions are kept in trajectories.dir"),
    ],
)
def test_errors_say_what_to_do(
    arguments: list[str], message: str, store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(store)
    assert status("inversions", *arguments) == 2
    assert message in capsys.readouterr().err
