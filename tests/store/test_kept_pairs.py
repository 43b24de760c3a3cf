"""Arrays per pair of frames that outlive the run that computed them."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from tokenflow.errors import OutputError, TokenflowWarning
from tokenflow.store.kept_pairs import KeptPairs, Pair

MADE_FROM = {"grid": [2, 3]}


def opened(folder: Path, made_from: dict[str, object] = MADE_FROM) -> KeptPairs:
    return KeptPairs(folder / "flow.pairs", made_from, nullcontext, "make room")


def arrays(*pairs: Pair) -> Iterator[tuple[Pair, np.ndarray]]:
    for first, second in pairs:
        yield (first, second), np.full((2, 3), first + second / 7, np.float16)


def add(folder: Path, *pairs: Pair, made_from: dict[str, object] = MADE_FROM) -> None:
    kept = opened(folder, made_from)
    kept.add(arrays(*pairs))
    kept.close()


def test_what_was_added_is_read_by_the_next_to_the_bit(tmp_path: Path) -> None:
    add(tmp_path, (0, 1), (4, 9))
    kept = opened(tmp_path)
    for pair, array in arrays((0, 1), (4, 9)):
        assert pair in kept
        assert np.array_equal(kept[pair], array)
        assert kept[pair].dtype == np.float16
    assert (1, 0) not in kept


def test_two_runs_that_began_together_lose_nothing_of_each_other(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    first.add(arrays((0, 1), (1, 2)))
    first.close()
    second.add(arrays((1, 2), (2, 3)))
    kept = opened(tmp_path)
    assert all(np.array_equal(kept[pair], array) for pair, array in arrays((0, 1), (1, 2), (2, 3)))


def test_what_was_made_from_something_else_counts_as_nothing(tmp_path: Path) -> None:
    add(tmp_path, (0, 1), made_from={"grid": [4, 4]})
    assert (0, 1) not in opened(tmp_path)
    add(tmp_path, (2, 3))
    assert (0, 1) not in opened(tmp_path)
    assert (2, 3) in opened(tmp_path)


@pytest.mark.parametrize("place", [0, 20, -50, -36, -1])
def test_a_damaged_file_is_said_and_computed_again(place: int, tmp_path: Path) -> None:
    add(tmp_path, (0, 1), (1, 2))
    path = tmp_path / "flow.pairs"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.warns(TokenflowWarning, match=r"flow.pairs is damaged \(its content has changed"):
        kept = opened(tmp_path)
    assert (0, 1) not in kept


@pytest.mark.parametrize("length", [0, 39, 60])
def test_so_is_half_a_file(length: int, tmp_path: Path) -> None:
    add(tmp_path, (0, 1))
    path = tmp_path / "flow.pairs"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.warns(TokenflowWarning, match="is damaged"):
        assert (0, 1) not in opened(tmp_path)


def test_an_interrupted_write_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    add(tmp_path, (0, 1))
    before = (tmp_path / "flow.pairs").read_bytes()

    def interrupted() -> Iterator[tuple[Pair, np.ndarray]]:
        yield from arrays((1, 2))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        opened(tmp_path).add(interrupted())
    assert [path.name for path in tmp_path.iterdir()] == ["flow.pairs"]
    assert (tmp_path / "flow.pairs").read_bytes() == before


def test_what_a_killed_run_was_writing_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".flow.pairs.4711").write_bytes(b"half")
    add(tmp_path, (0, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["flow.pairs"]


def test_nothing_is_written_where_nothing_is_new_or_the_folder_is_gone(tmp_path: Path) -> None:
    add(tmp_path)
    add(tmp_path / "gone", (0, 1))
    assert not [*tmp_path.iterdir()]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "flow.pairs").mkdir()
    with pytest.raises(OutputError, match="make room"):
        opened(tmp_path).add(arrays((0, 1)))
