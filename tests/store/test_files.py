import errno
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tokenflow.errors import Cancelled, ClipNotFoundError, OutputError, TokenflowWarning
from tokenflow.store import files
from tokenflow.store.files import LOCK, locked, output_errors, sha256, write_atomically, write_json, write_text


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_digest_is_sha256(tmp_path: Path) -> None:
    content = bytes(range(256)) * 9999
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_the_path_the_reason_and_the_remedy_are_in_the_message() -> None:
    said = r"^cannot write to out \(No space left on device\); buy a disk$"
    with pytest.raises(OutputError, match=said) as raised, output_errors(Path("out"), "buy a disk"):
        full()
    assert isinstance(raised.value.__cause__, OSError)


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_where_a_folder_is_needed_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / name
    with pytest.raises(OutputError, match=r"\(it or one of its parents is not a folder\)"), output_errors(path):
        path.mkdir()


@pytest.mark.parametrize("error", [ClipNotFoundError("no clip"), OutputError("no room"), ValueError("no value")])
def test_other_errors_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, output_errors(Path("out")):
        raise error
    assert raised.value is error


def test_the_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    for content in ("first", "second"):
        with write_atomically(path) as temporary:
            temporary.write_text(content)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == content
        assert names(path.parent) == {"file"}


@pytest.mark.parametrize(
    "error", [OSError(errno.ECONNRESET, "the listener is gone"), KeyboardInterrupt(), ValueError("no value")]
)
def test_an_error_in_the_block_passes_unchanged_and_leaves_the_file_as_it_was(
    error: BaseException, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("before")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise error

    with pytest.raises(type(error)) as raised, write_atomically(tmp_path / "file") as temporary:
        fail(temporary)
    assert raised.value is error
    assert names(tmp_path) == {"file"}
    assert (tmp_path / "file").read_text() == "before"


@pytest.mark.parametrize("operation", ["mkdir", "touch", "replace"])
def test_an_error_of_the_file_system_names_the_file_and_the_remedy(
    operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("before")
    monkeypatch.setattr(Path, operation, full)
    with pytest.raises(OutputError, match=r"cannot write to .*file \(No space left on device\); buy a disk"):
        write_text(tmp_path / "file", "text", "buy a disk")
    assert names(tmp_path) == {"file"}
    assert (tmp_path / "file").read_text() == "before"


def test_content_is_on_disk_before_the_file_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        write_text(tmp_path / "file", "text")
    assert names(tmp_path) == set()


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match=r"file \(No space left on device\); make room"):
        write_text(tmp_path / "file", "text")
    assert names(tmp_path) == set()


def test_text_is_the_same_on_every_system(tmp_path: Path) -> None:
    write_text(tmp_path / "file", "“虎”\nA\n")
    assert (tmp_path / "file").read_bytes() == "“虎”\nA\n".encode()


def test_json_is_read_back_and_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    for content in ({"seconds": {"edit": 1.5}}, {"prompt": "a “tiger” – 虎", "none": None}):
        write_json(path, content)
        assert json.loads(path.read_text(encoding="utf-8")) == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_value_that_is_not_json_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


class TakenError(Exception):
    pass


def refuse() -> None:
    raise TakenError


def assert_taken(folder: Path) -> None:
    with pytest.raises(TakenError), locked(folder, refuse):
        pytest.fail("two hold the lock")


def test_a_folder_that_is_not_used_is_removed_with_its_new_parents(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b", refuse):
        assert names(tmp_path / "a" / "b") == {LOCK}
    assert names(tmp_path) == set()


def test_a_parent_that_others_use_stays(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b", refuse):
        (tmp_path / "a" / "c").touch()
    assert names(tmp_path / "a") == {"c"}


def test_a_folder_that_is_used_stays_with_its_lock(tmp_path: Path) -> None:
    with locked(tmp_path / "a", refuse):
        (tmp_path / "a" / "result").touch()
    assert names(tmp_path / "a") == {"result", LOCK}


def test_no_lock_is_left_in_a_folder_to_which_nothing_was_added(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with locked(tmp_path, refuse):
        assert_taken(tmp_path)
    assert names(tmp_path) == {"notes.txt"}


def test_a_lock_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    with locked(tmp_path, refuse):
        assert_taken(tmp_path)
    assert names(tmp_path) == {LOCK}


def test_the_lock_is_released_after_an_exception(tmp_path: Path) -> None:
    (tmp_path / "result").touch()
    with pytest.raises(RuntimeError), locked(tmp_path, refuse):
        raise RuntimeError
    with locked(tmp_path, refuse):
        pass


def test_an_error_under_the_lock_passes_unchanged(tmp_path: Path) -> None:
    with pytest.raises(ConnectionAbortedError), locked(tmp_path, refuse):
        raise ConnectionAbortedError


def test_whoever_comes_second_may_give_up(tmp_path: Path) -> None:
    with locked(tmp_path, refuse):
        assert_taken(tmp_path)
        assert_taken(tmp_path)


def test_locks_of_two_names_do_not_exclude_each_other(tmp_path: Path) -> None:
    with locked(tmp_path, refuse), locked(tmp_path, refuse, name=".other.lock"):
        pass


@pytest.mark.parametrize("used", [False, True])
def test_those_who_wait_hold_it_one_after_another(used: bool, tmp_path: Path) -> None:
    """Also where the folder is created and removed at every turn."""
    inside = threading.Semaphore(1)
    turns: list[int] = []
    if used:
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / LOCK).touch()

    def take(number: int) -> None:
        for _ in range(20):
            with locked(tmp_path / "a", lambda: None):
                assert inside.acquire(blocking=False)
                turns.append(number)
                inside.release()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(take, range(4)))
    assert len(turns) == 80
    assert not used or names(tmp_path / "a") == {LOCK}


def test_whoever_waits_may_give_up(tmp_path: Path) -> None:
    asked: list[int] = []

    def cancel() -> bool:
        asked.append(1)
        return len(asked) == 3

    with locked(tmp_path, refuse):
        with pytest.raises(Cancelled, match=r"^cancelled$"), locked(tmp_path, lambda: None, cancel=cancel):
            pytest.fail("two hold the lock")
        assert len(asked) == 3
        assert_taken(tmp_path)
    with locked(tmp_path, refuse, cancel=cancel):
        assert len(asked) == 3


@pytest.mark.parametrize(
    ("moment", "change"),
    [
        ("open", lambda folder: folder.rmdir()),
        ("mkdir", lambda folder: folder.parent.rmdir()),
        ("mkdir", lambda folder: os.mkdir(folder)),
    ],
    ids=["the folder is removed", "its parent is removed", "the folder is created"],
)
def test_other_processes_may_create_and_remove_the_folder_at_any_moment(
    moment: str, change: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a" / "b"
    folder.parent.mkdir()
    plain = getattr(Path, moment)
    left = [1]

    def change_first(path: Path, *arguments: object) -> object:
        if left and path in (folder, folder / LOCK):
            left.pop()
            change(folder)
        return plain(path, *arguments)

    monkeypatch.setattr(Path, moment, change_first)
    with locked(folder, refuse):
        assert not left
        assert (folder / LOCK).exists()


def test_a_lock_file_that_another_one_has_replaced_is_not_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On NFS a deleted file that is open is only renamed, so that its link count says nothing."""
    acquire, replaced = files.lock_descriptor, []

    def replace_first(number: int, *, blocking: bool) -> bool:
        if not replaced:
            replaced.append(1)
            try:
                (tmp_path / LOCK).rename(tmp_path / ".nfs0001")
            except PermissionError:
                pytest.skip("no open file can be renamed here")
            (tmp_path / LOCK).touch()
        return acquire(number, blocking=blocking)

    monkeypatch.setattr(files, "lock_descriptor", replace_first)
    with locked(tmp_path, refuse):
        assert replaced
        assert_taken(tmp_path)


@pytest.mark.parametrize("what", ["file", "link to nothing"])
def test_only_a_folder_can_be_locked(what: str, tmp_path: Path) -> None:
    place = tmp_path / "a"
    if what == "file":
        place.touch()
    else:
        place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="not a folder"), locked(place, refuse):
        pytest.fail("it is locked")


@pytest.mark.parametrize("number", sorted({errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}))
def test_a_file_system_without_locks_is_used_without_and_reported(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object, **__: object) -> bool:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "lock_descriptor", unsupported)
    said = "has no locks; make sure that no other run writes there"
    with pytest.warns(TokenflowWarning, match=said), locked(tmp_path, refuse):
        pass


def test_any_other_error_of_the_lock_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "lock_descriptor", full)
    with pytest.raises(OutputError, match="No space left"), locked(tmp_path, refuse):
        pytest.fail("it is locked")


def test_it_excludes_other_processes_and_is_released_when_its_process_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from tokenflow.store.files import locked\n"
        "with locked(Path(sys.argv[1]), lambda: None): print('held', flush=True); time.sleep(60)"
    )
    root = str(Path(__file__).parents[2])
    paths = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert_taken(tmp_path)
        process.kill()
    with locked(tmp_path, refuse):
        pass
