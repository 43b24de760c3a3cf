"""Results replace earlier ones whole or not at all, even if a run is killed at any step."""

import errno
import json
import multiprocessing
import os
import re
import sys
from itertools import count
from pathlib import Path

import pytest

from tests.store.writing import KILLED, NAMES, PATTERNS, write, write_and_die
from tokenflow.errors import OutputError
from tokenflow.store.files import LOCK, locked
from tokenflow.store.results import (
    COMPLETE,
    EARLIER,
    FILES,
    REPORT,
    UNFINISHED,
    delete_results,
    file_digests,
    is_complete,
    replace_atomically,
    report_digest,
)

EARLIER_FILES = {
    "edited.mp4": "1",
    "config.yaml": "same",
    "frames/frame_00000.png": "1",
    "frames/frame_00001.png": "2",
}
NEW_FILES = {"edited.mkv": "2", "config.yaml": "same", "frames/frame_00000.png": "3"}

START = multiprocessing.get_context("fork" if sys.platform == "linux" and hasattr(os, "fork") else "spawn")
"""Starts processes to be killed. Forked ones are faster."""


def fail(folder: Path, error: BaseException) -> None:
    with replace_atomically(folder, PATTERNS, [], NAMES) as place:
        (place / "edited.mp4").write_text("half")
        raise error


def content(folder: Path) -> dict[str, str]:
    """All files but hidden ones and the report, which names the others."""
    paths = {path.relative_to(folder): path for path in folder.rglob("*") if path.is_file() and path.name != REPORT}
    return {name.as_posix(): path.read_text() for name, path in paths.items() if not re.search(r"(^|/)\.", str(name))}


def hidden(folder: Path) -> set[str]:
    return {path.name for path in folder.glob(".*")}


def killed(folder: Path, files: dict[str, str], step: int) -> bool:
    """Whether a process that leaves these files was killed before it had done so many steps."""
    process = START.Process(target=write_and_die, args=(folder, files, step))
    process.start()
    process.join()
    assert process.exitcode in (0, KILLED)
    return process.exitcode == KILLED


def test_after_a_kill_at_any_step_there_is_one_result_or_none_and_the_next_run_resumes_the_move(tmp_path: Path) -> None:
    outcomes = []
    for step in count():
        folder = tmp_path / str(step)
        write(folder, EARLIER_FILES)
        (folder / "notes.txt").write_text("the user's")
        earlier, new = ({**files, "notes.txt": "the user's"} for files in (EARLIER_FILES, NEW_FILES))
        if not killed(folder, NEW_FILES, step):
            break
        if (folder / REPORT).exists():
            assert content(folder) in (earlier, new)
            assert is_complete(folder)
        with pytest.raises(RuntimeError, match="middle"):
            fail(folder, RuntimeError("in the middle of the work"))
        assert content(folder) in (earlier, new)
        assert is_complete(folder)
        assert hidden(folder) == {LOCK}
        outcomes.append(content(folder) == new)
    assert content(folder) == new
    # The earlier result stays up to the step that completes the new one; from then on the new one arrives.
    assert outcomes == sorted(outcomes)
    assert outcomes[0] is False
    assert sum(outcomes) > len(NEW_FILES)


def test_a_first_result_is_there_or_not_after_a_kill_at_any_step(tmp_path: Path) -> None:
    for step in count():
        folder = tmp_path / str(step)
        if not killed(folder, NEW_FILES, step):
            break
        assert is_complete(folder) <= (content(folder) == NEW_FILES)
        write(folder, EARLIER_FILES)
        assert content(folder) == EARLIER_FILES
        assert hidden(folder) == {LOCK}
    assert step > len(NEW_FILES)


def test_an_interrupted_move_spares_what_the_user_has_changed_since(tmp_path: Path) -> None:
    """The user has overwritten every file that the killed run left."""
    for step in count():
        folder = tmp_path / str(step)
        write(folder, EARLIER_FILES)
        if not killed(folder, NEW_FILES, step):
            break
        for name in EARLIER_FILES | NEW_FILES:
            if (folder / name).exists():
                (folder / name).write_text("the user's")
        before = content(folder)
        with pytest.raises(OutputError, match=r"was not written by tokenflow, or has been changed since"):
            write(folder, NEW_FILES)
        assert content(folder) == before
    assert step > len(NEW_FILES)


@pytest.mark.parametrize("error", [ConnectionAbortedError("the listener"), KeyboardInterrupt(), OutputError("no room")])
def test_an_error_of_the_work_passes_unchanged_and_leaves_the_earlier_result(
    error: BaseException, tmp_path: Path
) -> None:
    write(tmp_path, EARLIER_FILES)
    with pytest.raises(type(error)) as raised:
        fail(tmp_path, error)
    assert raised.value is error
    assert content(tmp_path) == EARLIER_FILES
    assert hidden(tmp_path) == {LOCK}


def test_nothing_is_left_of_a_folder_whose_first_run_failed(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        fail(tmp_path / "a" / "out", RuntimeError())
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_before_the_work_is_reported_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, *_: object, **__: object) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    said = r"out \(No space left on device\); make room, or set output\.dir to another place"
    with pytest.raises(OutputError, match=said):
        write(tmp_path / "out", NEW_FILES)
    assert list(tmp_path.iterdir()) == []


def test_a_move_that_fails_is_reported_and_resumed_by_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows moves no file over one that is open."""
    write(tmp_path, EARLIER_FILES)
    replace = Path.replace

    def refuse(path: Path, target: Path) -> Path:
        if path.name == "config.yaml":
            raise PermissionError(13, "Permission denied")
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refuse)
        said = r"\(Permission denied\); make room, or set output\.dir to another place"
        with pytest.raises(OutputError, match=said):
            write(tmp_path, NEW_FILES)
    assert not is_complete(tmp_path)
    with pytest.raises(RuntimeError):
        fail(tmp_path, RuntimeError())
    assert content(tmp_path) == NEW_FILES
    assert is_complete(tmp_path)


def test_a_second_run_is_refused(tmp_path: Path) -> None:
    with (
        locked(tmp_path, pytest.fail),
        pytest.raises(OutputError, match=r"another run is writing to .*wait until it is done"),
    ):
        write(tmp_path, NEW_FILES)


def test_a_scratch_file_that_is_open_to_the_end_is_no_result(tmp_path: Path) -> None:
    with replace_atomically(tmp_path, PATTERNS, [], NAMES) as place:
        scratch = (place / ".tokenflow-scratch").open("wb")
        (place / "edited.mp4").write_text("1")
        (place / REPORT).write_text(json.dumps({FILES: file_digests(place)}))
    assert content(tmp_path) == {"edited.mp4": "1"}
    assert is_complete(tmp_path)
    scratch.close()
    write(tmp_path, NEW_FILES)
    assert content(tmp_path) == NEW_FILES
    assert hidden(tmp_path) == {LOCK}


def test_files_are_listed_by_their_paths_with_slashes(tmp_path: Path) -> None:
    write(tmp_path, NEW_FILES)
    assert set(file_digests(tmp_path)) == {*NEW_FILES, REPORT}


def test_a_report_is_told_from_another_by_its_digest(tmp_path: Path) -> None:
    assert report_digest(tmp_path) is None
    write(tmp_path, EARLIER_FILES)
    first = report_digest(tmp_path)
    assert first is not None
    write(tmp_path, NEW_FILES)
    assert report_digest(tmp_path) not in (None, first)


def test_a_result_without_one_of_its_files_is_not_complete(tmp_path: Path) -> None:
    assert not is_complete(tmp_path)
    write(tmp_path, NEW_FILES)
    assert is_complete(tmp_path)
    (tmp_path / "frames" / "frame_00000.png").unlink()
    assert not is_complete(tmp_path)


@pytest.mark.parametrize(
    "name", ["../precious.mp4", "{outside}/precious.mp4", "frames/../../precious.mp4", "notes.txt"]
)
def test_a_report_that_lists_what_no_edit_writes_is_refused_and_nothing_is_deleted(tmp_path: Path, name: str) -> None:
    folder, precious = tmp_path / "out", tmp_path / "precious.mp4"
    write(folder, EARLIER_FILES)
    for path in (precious, folder / "notes.txt"):
        path.write_text("the user's")
    listed = json.loads((folder / REPORT).read_text())[FILES]
    name = name.format(outside=tmp_path)
    text = json.dumps({FILES: listed | {name: file_digests(tmp_path)["precious.mp4"]}})
    (folder / REPORT).write_text(text)
    before = content(tmp_path)
    with pytest.raises(OutputError, match=r"report\.json was not written by tokenflow: it lists .*move it or choose"):
        write(folder, NEW_FILES)
    assert content(tmp_path) == before
    assert (folder / REPORT).read_text() == text


@pytest.mark.parametrize("list_of", [EARLIER, f"{UNFINISHED}/{COMPLETE}"])
def test_complete_results_go_nowhere_but_to_their_folder(list_of: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / UNFINISHED).mkdir(parents=True)
    (folder / "edited.mp4").write_text("new")
    (tmp_path / "edited.mp4").write_text("the user's")
    for name in (EARLIER, f"{UNFINISHED}/{COMPLETE}"):
        (folder / name).write_text(json.dumps({FILES: {"../edited.mp4": "any"} if name == list_of else {}}))
    with pytest.raises(OutputError, match=rf"{re.escape(list_of)} was not written by tokenflow"):
        write(folder, NEW_FILES)
    assert (tmp_path / "edited.mp4").read_text() == "the user's"


def test_an_unfinished_folder_that_is_the_users_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / UNFINISHED).mkdir()
    for name in (COMPLETE, REPORT):
        (tmp_path / UNFINISHED / name).write_text(json.dumps({FILES: {"edited.mp4": "any"}}))
    (tmp_path / UNFINISHED / "edited.mp4").write_text("the user's")
    with pytest.raises(OutputError, match=rf"{UNFINISHED} was not written by tokenflow.*move it or choose"):
        write(tmp_path, NEW_FILES)
    assert hidden(tmp_path) == {UNFINISHED}
    assert (tmp_path / UNFINISHED / "edited.mp4").read_text() == "the user's"


@pytest.mark.parametrize("name", [".partial", ".whole", ".lock"])
def test_hidden_folders_and_files_of_the_users_stay(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").write_text("the user's")
    write(tmp_path, NEW_FILES)
    assert (tmp_path / name / "notes.txt").read_text() == "the user's"


@pytest.mark.parametrize("name", ["edited.mp4", "frames/frame_00007.png", REPORT])
def test_a_file_of_the_users_in_the_way_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("the user's")
    with (
        pytest.raises(OutputError, match=rf"{re.escape(name)} was not written by tokenflow.*would be overwritten"),
        replace_atomically(tmp_path, PATTERNS, [], NAMES),
    ):
        pytest.fail("the work has begun")
    assert (tmp_path / name).read_text() == "the user's"


def test_a_file_changed_since_is_the_users(tmp_path: Path) -> None:
    """One in the way of a result is refused; one that only its earlier result had stays."""
    write(tmp_path, EARLIER_FILES)
    retouched = tmp_path / "frames" / "frame_00001.png"
    retouched.write_text("the user's")
    with pytest.raises(OutputError, match=r"frame_00001\.png was not written by tokenflow, or has been changed since"):
        write(tmp_path, NEW_FILES)
    with replace_atomically(tmp_path, ["edited.mkv", REPORT], [], NAMES) as place:
        (place / "edited.mkv").write_text("2")
        (place / REPORT).write_text(json.dumps({FILES: file_digests(place)}))
    assert content(tmp_path) == {"edited.mkv": "2", "frames/frame_00001.png": "the user's"}


@pytest.mark.parametrize("source", ["edited.mp4", "frames", "."])
def test_results_that_would_change_the_clip_or_its_mask_are_refused(tmp_path: Path, source: str) -> None:
    write(tmp_path, EARLIER_FILES)
    said = r"belongs to the clip or its mask, and results in .* choose another output\.dir"
    with (
        pytest.raises(OutputError, match=said),
        replace_atomically(tmp_path, PATTERNS, [tmp_path / source], NAMES),
    ):
        pytest.fail("the work has begun")


def test_a_file_where_a_folder_is_needed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "frames").touch()
    with pytest.raises(OutputError, match="frames was not written by tokenflow"):
        write(tmp_path, NEW_FILES)


def test_deleted_results_leave_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    write(folder, EARLIER_FILES)
    delete_results(folder, NAMES)
    left = [path.name for path in folder.glob("*")]
    assert left == ([LOCK] if folder.exists() else [])  # a system that deletes no open file keeps the lock


def test_what_is_the_users_or_was_changed_stays_when_results_are_deleted(tmp_path: Path) -> None:
    write(tmp_path, EARLIER_FILES)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "edited.mp4").write_text("cut by hand")
    delete_results(tmp_path, NAMES)
    assert content(tmp_path) == {"notes.txt": "mine", "edited.mp4": "cut by hand"}
    assert not (tmp_path / REPORT).exists()


def test_results_that_a_run_is_writing_are_not_deleted(tmp_path: Path) -> None:
    write(tmp_path, EARLIER_FILES)
    with locked(tmp_path, lambda: None), pytest.raises(OutputError, match="another run is writing"):
        delete_results(tmp_path, NAMES)
    assert content(tmp_path) == EARLIER_FILES
