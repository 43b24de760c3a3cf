"""New results in the place of earlier ones, by processes that are killed at every step of it."""

import json
import os
import re
import signal
from itertools import count
from pathlib import Path

import pytest

from tokenflow.errors import OutputError
from tokenflow.store.results import FILES, MARK, REPORT, checksums, replace_atomically

PATTERNS = ["*.mp4", "*.mkv", "config.yaml", "frames/frame_*.png", REPORT]
NAMES = re.compile(r"edited\.(mp4|mkv)|config\.yaml|frames/frame_[0-9]+\.png")
EARLIER = {"edited.mp4": "1", "config.yaml": "same", "frames/frame_00000.png": "1", "frames/frame_00001.png": "2"}
NEW = {"edited.mkv": "2", "config.yaml": "same", "frames/frame_00000.png": "3"}


def leave(folder: Path, files: dict[str, str]) -> None:
    """What an edit does."""
    with replace_atomically(folder, PATTERNS, [], NAMES) as place:
        for name, content in files.items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text(content)
        (place / REPORT).write_text(json.dumps({FILES: checksums(place)}))


def fail(folder: Path) -> None:
    with replace_atomically(folder, PATTERNS, [], NAMES):
        raise RuntimeError("in the middle of the work")


def left(folder: Path) -> dict[str, str]:
    """All files but the hidden ones, and the report, which names the others."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    names = {str(path.relative_to(folder)): path.read_text() for path in paths}
    return {name: content for name, content in names.items() if name != REPORT and not name.startswith(".")}


def killed(folder: Path, files: dict[str, str], step: int) -> bool:
    """Whether a process that leaves these files was killed before the n-th file was moved or deleted."""
    process = os.fork()
    if process == 0:
        steps = count()

        def counted(work):  # type: ignore[no-untyped-def]
            def stepping(*arguments):  # type: ignore[no-untyped-def]
                if next(steps) == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                return work(*arguments)

            return stepping

        for name in ("replace", "rename", "unlink", "rmdir"):
            setattr(Path, name, counted(getattr(Path, name)))
        try:
            leave(folder, files)
        finally:
            os._exit(0)
    _, status = os.waitpid(process, 0)
    return os.WIFSIGNALED(status)


def test_a_kill_at_any_step_leaves_one_result_or_none_and_the_next_run_completes_the_move(tmp_path: Path) -> None:
    outcomes = []
    for step in count():
        folder = tmp_path / str(step)
        leave(folder, EARLIER)
        (folder / "notes.txt").write_text("the user's")
        earlier, new = ({**files, "notes.txt": "the user's"} for files in (EARLIER, NEW))
        if not killed(folder, NEW, step):
            break
        if (folder / REPORT).exists():
            assert left(folder) in (earlier, new)
        with pytest.raises(RuntimeError, match="middle"):
            fail(folder)
        assert left(folder) in (earlier, new)
        assert not list(folder.glob(".*"))
        outcomes.append(left(folder) == new)
    assert left(folder) == new
    # Up to the step in which the new result is whole the earlier one stays, and afterwards the new one comes.
    assert outcomes == sorted(outcomes)
    assert outcomes[0] is False
    assert sum(outcomes) > len(NEW)


@pytest.mark.parametrize(
    "name", ["../precious.mp4", "{outside}/precious.mp4", "frames/../../precious.mp4", "notes.txt"]
)
def test_a_report_that_lists_what_no_edit_leaves_is_refused_and_nothing_is_deleted(tmp_path: Path, name: str) -> None:
    folder, precious = tmp_path / "out", tmp_path / "precious.mp4"
    leave(folder, EARLIER)
    for path in (precious, folder / "notes.txt"):
        path.write_text("the user's")
    listed = json.loads((folder / REPORT).read_text())[FILES]
    name = name.format(outside=tmp_path)
    text = json.dumps({FILES: listed | {name: checksums(tmp_path)["precious.mp4"]}})
    (folder / REPORT).write_text(text)
    before = left(tmp_path)
    with pytest.raises(OutputError, match=r"report\.json is no edit's: it lists .*move it away"):
        leave(folder, NEW)
    assert left(tmp_path) == before
    assert (folder / REPORT).read_text() == text


def test_results_that_wait_to_be_moved_go_nowhere_else(tmp_path: Path) -> None:
    folder, waiting = tmp_path / "out", tmp_path / "out" / ".tokenflow-whole"
    waiting.mkdir(parents=True)
    (waiting / MARK).touch()
    (folder / "edited.mp4").write_text("new")
    (tmp_path / "edited.mp4").write_text("the user's")
    (waiting / REPORT).write_text(json.dumps({FILES: {"../edited.mp4": "any"}}))
    with pytest.raises(OutputError, match=r"\.tokenflow-whole/report\.json is no edit's"):
        leave(folder, NEW)
    assert (tmp_path / "edited.mp4").read_text() == "the user's"


@pytest.mark.parametrize("name", [".tokenflow-partial", ".tokenflow-whole"])
def test_a_folder_for_unfinished_results_that_is_not_ours_is_refused_and_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / REPORT).write_text(json.dumps({FILES: {"edited.mp4": "any"}}))
    (tmp_path / name / "edited.mp4").write_text("the user's")
    with pytest.raises(OutputError, match=rf"{name} is not what an unfinished edit left there.*move it away"):
        leave(tmp_path, NEW)
    assert {path.name for path in tmp_path.iterdir()} == {name}
    assert (tmp_path / name / "edited.mp4").read_text() == "the user's"


@pytest.mark.parametrize("name", [".partial", ".whole", ".lock"])
def test_hidden_folders_and_files_of_the_users_stay(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").write_text("the user's")
    leave(tmp_path, NEW)
    assert (tmp_path / name / "notes.txt").read_text() == "the user's"
