"""New results in the place of earlier ones, by processes that are killed at every step of it."""

import json
import os
import signal
from itertools import count
from pathlib import Path

import pytest

from tokenflow.replacing import FILES, REPORT, checksums, whole_or_not

PATTERNS = ["*.mp4", "*.mkv", "config.yaml", "frames/frame_*.png", REPORT]
EARLIER = {"edited.mp4": "1", "config.yaml": "same", "frames/frame_00000.png": "1", "frames/frame_00001.png": "2"}
NEW = {"edited.mkv": "2", "config.yaml": "same", "frames/frame_00000.png": "3"}


def leave(folder: Path, files: dict[str, str]) -> None:
    """What an edit does."""
    with whole_or_not(folder, PATTERNS, []) as place:
        for name, content in files.items():
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_text(content)
        (place / REPORT).write_text(json.dumps({FILES: checksums(place)}))


def fail(folder: Path) -> None:
    with whole_or_not(folder, PATTERNS, []):
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
