from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenflow.diffusion.latents import LatentFile, ReadLatents, RowFile, in_memory, on_disk
from tokenflow.errors import OutputError

SHAPE = 7, 4, 3, 2


@pytest.fixture
def frames(tmp_path: Path) -> tuple[RowFile, np.ndarray]:
    content = np.random.default_rng(0).integers(0, 256, (5, 6, 4, 3), np.uint8)
    (tmp_path / "frames").write_bytes(content.tobytes())
    return RowFile((tmp_path / "frames").open("rb"), content.shape, np.uint8), content


def test_rows_are_read_as_an_array_gives_them(frames: tuple[RowFile, np.ndarray]) -> None:
    file, content = frames
    assert file.shape == content.shape
    assert len(file) == 5
    for rows in (0, 4, np.int64(2), [3], [4, 0, 0]):
        assert np.array_equal(file[rows], content[rows])
    assert np.array_equal(np.stack(list(file)), content)


@pytest.mark.parametrize("row", [-1, 5])
def test_a_row_that_is_not_there_is_an_index_error(row: int, frames: tuple[RowFile, np.ndarray]) -> None:
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


def test_no_file_is_seen_and_none_is_left(tmp_path: Path) -> None:
    room = LatentFile(SHAPE, tmp_path)
    room[[3]] = torch.ones(1, *SHAPE[1:])
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="nowhere"):
        LatentFile(SHAPE, tmp_path / "nowhere")


def test_latents_can_be_computed_when_asked_for() -> None:
    latents = ReadLatents(9, lambda frames: torch.tensor(frames).float().view(-1, 1, 1, 1))
    assert len(latents) == 9
    assert latents[[8, 2]].flatten().tolist() == [8, 2]
