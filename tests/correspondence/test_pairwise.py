import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tokenflow.correspondence.base import identity
from tokenflow.correspondence.pairwise import Pairwise
from tokenflow.errors import OutputError


class Numbered(Pairwise):
    """The field of a → b moves every token by a pictures to the right and b down, and is sure by 1 / (1 + a)."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__(folder)
        self.found: list[tuple[int, int]] = []

    def find(self, first: int, second: int) -> np.ndarray:
        self.found.append((first, second))
        fields = [np.full((4, 6, 3), [a, b, 1 / (1 + a)], np.float32) for a, b in ((first, second), (second, first))]
        return np.stack(fields)


def test_every_pair_is_found_once_and_read_in_either_order_and_any_turn() -> None:
    pairs = Numbered()
    asked = [(0, 1), (5, 2), (1, 0), (2, 5), (0, 1), (3, 0), (5, 2)]
    for frame, keyframe in asked:
        positions, sure = pairs.maps(frame, keyframe, 2, 3)
        moved = positions - identity(2, 3)[0]
        assert moved[:, 0].tolist() == [frame * 3] * 6
        assert moved[:, 1].tolist() == [keyframe * 2] * 6
        np.testing.assert_allclose(sure, 1 / (1 + frame), rtol=1e-6)
    assert pairs.found == [(0, 1), (2, 5), (0, 3)]


def test_nothing_is_left_in_the_folder(tmp_path: Path) -> None:
    pairs = Numbered(tmp_path)
    pairs.maps(0, 1, 2, 3)
    assert not [*tmp_path.iterdir()]


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write to .*gone \(No such file"):
        Numbered(tmp_path / "gone")


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    """In a process that may write no more than a few bytes to a file."""
    code = (
        "import resource, signal, sys; from pathlib import Path;"
        "from tests.correspondence.test_pairwise import Numbered;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100));"
        "Numbered(Path(sys.argv[1])).maps(0, 1, 2, 3)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert f"OutputError: cannot write to {tmp_path} ({OSError(errno.EFBIG, 'File too large').strerror})" in done.stderr
