"""Which inversions a store holds, and how one is removed."""

import os
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch

from tokenflow.diffusion.levels import CLEAN_TIME, Level
from tokenflow.errors import OutputError
from tokenflow.store.inversions import MANIFEST, StoredInversion
from tokenflow.store.listing import listed_inversions, remove_inversion

DAY = 24 * 60 * 60


def stored(folder: Path, *, complete: bool = True, steps: int = 25) -> StoredInversion:
    inversion = StoredInversion(folder, {"prompt": "a dog", "steps": steps})
    inversion.write_frames((np.zeros((4, 4, 3), np.uint8), index, 1) for index in range(2))
    inversion.write_latents(Level(1.0, 0.0, CLEAN_TIME), [torch.zeros(2, 4, 2, 2)])
    if complete:
        inversion.finish()
    return inversion


def test_each_inversion_is_listed_with_what_it_takes(tmp_path: Path) -> None:
    stored(tmp_path / "a")
    stored(tmp_path / "b", complete=False, steps=8)
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.png").touch()
    first, second = listed_inversions(tmp_path)
    assert (first.folder, first.prompt, first.steps, first.complete) == (tmp_path / "a", "a dog", 25, True)
    assert (second.folder, second.steps, second.complete) == (tmp_path / "b", 8, False)
    assert first.bytes == sum(path.stat().st_size for path in (tmp_path / "a").iterdir())


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"made_from": 1}', b"\xff"])
def test_a_damaged_manifest_is_an_unfinished_inversion(content: bytes, tmp_path: Path) -> None:
    stored(tmp_path / "a")
    (tmp_path / "a" / MANIFEST).write_bytes(content)
    (listed,) = listed_inversions(tmp_path)
    assert (listed.prompt, listed.steps, listed.complete) == (None, None, False)


def test_an_inversion_is_as_old_as_its_last_file(tmp_path: Path) -> None:
    stored(tmp_path / "a")
    now = (tmp_path / "a" / MANIFEST).stat().st_mtime
    for path in (tmp_path / "a").iterdir():
        os.utime(path, (now, now - 10 * DAY))
    (old,) = listed_inversions(tmp_path)
    assert old.is_older_than(timedelta(days=9))
    assert not old.is_older_than(timedelta(days=11))
    os.utime(tmp_path / "a" / MANIFEST, (now, now))
    (young,) = listed_inversions(tmp_path)
    assert not young.is_older_than(timedelta(days=1))


def test_a_removed_inversion_leaves_no_trace_and_the_others_alone(tmp_path: Path) -> None:
    stored(tmp_path / "a")
    stored(tmp_path / "b")
    first, second = listed_inversions(tmp_path)
    remove_inversion(first)
    assert list(tmp_path.iterdir()) == [tmp_path / "b"]
    assert list(listed_inversions(tmp_path)) == [second]


def test_an_inversion_that_another_run_is_making_is_kept(tmp_path: Path) -> None:
    inversion = stored(tmp_path / "a", complete=False)
    (listed,) = listed_inversions(tmp_path)
    with inversion.locked(), pytest.raises(OutputError, match="is being written by another run; it was left as it is"):
        remove_inversion(listed)
    assert (tmp_path / "a" / MANIFEST).is_file()
