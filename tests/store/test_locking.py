import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tokenflow.store.locking import LOCK, locked


class TakenError(Exception):
    pass


def refuse() -> None:
    raise TakenError


def test_a_folder_that_nothing_was_put_into_goes_again(tmp_path: Path) -> None:
    with locked(tmp_path / "a" / "b", refuse):
        assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == [LOCK]
    assert list((tmp_path / "a").iterdir()) == []


def test_a_folder_that_something_was_put_into_stays_without_the_lock(tmp_path: Path) -> None:
    with locked(tmp_path, refuse):
        (tmp_path / "result").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_the_lock_is_given_back_after_an_exception(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path / "a", refuse):
        raise RuntimeError
    with locked(tmp_path / "a", refuse):
        pass


def test_who_comes_second_decides_to_leave(tmp_path: Path) -> None:
    with locked(tmp_path, refuse):
        with pytest.raises(TakenError), locked(tmp_path, refuse):
            pytest.fail("it was held twice")
        with pytest.raises(TakenError), locked(tmp_path, refuse):
            pytest.fail("it was held twice")


@pytest.mark.parametrize("count", [2, 6])
def test_of_those_who_wait_one_after_another_has_it(count: int, tmp_path: Path) -> None:
    """The lock is deleted each time it is given back, and still never held twice."""
    inside = threading.Semaphore(1)
    turns: list[int] = []

    def take(number: int) -> None:
        for _ in range(20):
            with locked(tmp_path / "a", lambda: None):
                assert inside.acquire(blocking=False)
                turns.append(number)
                inside.release()

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(take, range(count)))
    assert len(turns) == 20 * count
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("moment", ["is_dir", "open"])
def test_a_folder_that_goes_while_it_is_looked_at_is_made_again(
    moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its holder takes it away at the worst moment: once it was seen to be there, or just before the lock is made."""
    folder = tmp_path / "a"
    folder.mkdir()
    plain = getattr(Path, moment)
    left = [1]

    def taking_it_away(path: Path, *arguments: object) -> object:
        if left and (path == folder or path.parent == folder):
            left.pop()
            folder.rmdir()
        return plain(path, *arguments)

    monkeypatch.setattr(Path, moment, taking_it_away)
    with locked(folder, refuse):
        assert not left
        assert (folder / LOCK).exists()


@pytest.mark.parametrize("what", ["file", "link to nowhere"])
def test_what_is_no_folder_cannot_be_held(what: str, tmp_path: Path) -> None:
    place = tmp_path / "a"
    if what == "file":
        place.touch()
    else:
        place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileExistsError), locked(place, refuse):
        pytest.fail("it was held")


def test_it_goes_with_a_process_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from tokenflow.store.locking import locked\n"
        "with locked(Path(sys.argv[1]), lambda: None): print('held', flush=True); time.sleep(60)"
    )
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(TakenError), locked(tmp_path, refuse):
            pytest.fail("it was held twice")
        process.send_signal(signal.SIGKILL)
    with locked(tmp_path, refuse):
        pass
