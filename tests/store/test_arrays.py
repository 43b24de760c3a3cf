import errno
import io
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenflow.diffusion.latents import LazyLatents, in_memory
from tokenflow.errors import OutputError
from tokenflow.store.arrays import ArrayFile, LatentFile, PairFile, on_disk

SHAPE = 7, 4, 3, 2


@pytest.fixture
def frames(tmp_path: Path) -> tuple[ArrayFile, np.ndarray]:
    content = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3), np.uint8)
    (tmp_path / "frames").write_bytes(content.tobytes())
    return ArrayFile((tmp_path / "frames").open("rb"), content.shape, np.uint8), content


def test_a_file_is_indexed_like_an_array(frames: tuple[ArrayFile, np.ndarray]) -> None:
    file, content = frames
    assert file.shape == content.shape
    assert len(file) == 5
    for rows in (0, 4, np.int64(2), [3], [4, 0, 0]):
        assert np.array_equal(file[rows], content[rows])
    assert np.array_equal(np.stack(list(file)), content)


@pytest.mark.parametrize("row", [-1, 5])
def test_a_row_out_of_range_is_an_index_error(row: int, frames: tuple[ArrayFile, np.ndarray]) -> None:
    with pytest.raises(IndexError, match=f"row {row} of 5"):
        frames[0][[row]]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    writes=st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=4, unique=True), max_size=6),
    seed=st.integers(0, 99),
)
def test_a_file_and_memory_hold_the_same(writes: list[list[int]], seed: int, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(seed)
    room = [in_memory(SHAPE), on_disk(tmp_path)(SHAPE)]
    for frames in [[0, 1, 2, 3, 4, 5, 6], *writes]:
        latents = torch.randn(len(frames), *SHAPE[1:], generator=generator)
        for each in room:
            each[frames] = latents
    for frames in [[6], [0, 3], list(range(7))]:
        assert torch.equal(room[0][frames], room[1][frames])
        assert room[1][frames].data_ptr() % 64 == 0
    assert len(room[1]) == 7


@pytest.mark.parametrize("store", [lambda folder: LatentFile(SHAPE, folder), PairFile], ids=["latents", "pairs"])
def test_a_temporary_file_is_closed_and_gone_with_its_owner(
    store: Callable[[Path], LatentFile | PairFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    temporary = tempfile.NamedTemporaryFile  # what a temporary file is on Windows
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: made.append(temporary(**options)) or made[0])
    owner = store(tmp_path)
    assert [path.name.startswith(".tokenflow-") for path in tmp_path.iterdir()] == [True]
    if isinstance(owner, LatentFile):
        owner[[3]] = torch.ones(1, *SHAPE[1:])
    else:
        owner.get((0, 1), lambda *pair: np.array(pair))
    assert not made[0].file.closed
    del owner
    assert made[0].file.closed
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("store", [lambda folder: LatentFile(SHAPE, folder), PairFile], ids=["latents", "pairs"])
def test_a_folder_that_is_missing_is_named(store: Callable[[Path], object], tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write to .*nowhere \(No such file.*\); free some space there"):
        store(tmp_path / "nowhere")


def test_a_full_disk_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latents, pairs = LatentFile(SHAPE, tmp_path), PairFile(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ArrayFile, "_write", full)
    said = r"cannot write to .* \(No space left on device\); free some space there"
    with pytest.raises(OutputError, match=said):
        latents[[0]] = torch.ones(1, *SHAPE[1:])
    with pytest.raises(OutputError, match=said):
        pairs.get((0, 1), lambda *pair: np.array(pair))


def test_what_is_written_in_parts_is_written_whole(tmp_path: Path) -> None:
    class Slow(io.FileIO):
        def write(self, data: bytes, /) -> int:  # type: ignore[override]
            return super().write(data[:5])

    content = np.arange(60, dtype=np.float32).reshape(5, 12)
    file = ArrayFile(Slow(tmp_path / "file", "w+"), content.shape, np.float32)
    file[[4, 0, 1, 2, 3]] = content[[4, 0, 1, 2, 3]]
    assert np.array_equal(file[[0, 1, 2, 3, 4]], content)


def test_threads_share_a_file(tmp_path: Path) -> None:
    """A file has one position; a thread that moves it while another one reads would give the other a wrong row."""
    content = np.random.default_rng(0).integers(0, 256, (64, 20_000), np.uint8)
    (tmp_path / "file").write_bytes(content.tobytes())
    file = ArrayFile((tmp_path / "file").open("r+b", buffering=0), content.shape, np.uint8)

    def use(seed: int) -> bool:
        rows = np.random.default_rng(seed).integers(0, 64, 400).tolist()
        for row in rows[::4]:
            file[[row]] = content[[row]]
        return all(np.array_equal(file[row], content[row]) for row in rows)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(use, range(4)))


def test_each_pair_is_computed_once(tmp_path: Path) -> None:
    pairs, computed = PairFile(tmp_path), []

    def compute(first: int, second: int) -> np.ndarray:
        computed.append((first, second))
        return np.full((2, 3), first + second / 10, np.float16)

    for pair in [(0, 1), (5, 2), (0, 1), (3, 0), (5, 2)]:
        array = pairs.get(pair, compute)
        assert array.dtype == np.float16
        assert np.array_equal(array, np.full((2, 3), pair[0] + pair[1] / 10, np.float16))
    assert computed == [(0, 1), (5, 2), (3, 0)]


def test_lazy_latents_are_computed_when_they_are_indexed() -> None:
    latents = LazyLatents(9, lambda frames: torch.tensor(frames).float().view(-1, 1, 1, 1))
    assert len(latents) == 9
    assert latents[[8, 2]].flatten().tolist() == [8, 2]
