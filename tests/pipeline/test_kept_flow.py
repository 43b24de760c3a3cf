"""Flow stays in the folder of a stored inversion, and the next edit reads it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenflow
from tests.tiny import moving_square, tiny_model
from tokenflow.correspondence import flow
from tokenflow.errors import TokenflowWarning
from tokenflow.store.listing import listed_inversions

FRAMES = 7


@pytest.fixture
def estimated(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with every estimate of flow."""
    calls: list[int] = []
    estimate: Callable[..., np.ndarray] = flow.optical_flow

    def counted(*arguments: Any, **options: Any) -> np.ndarray:
        calls.append(1)
        return estimate(*arguments, **options)

    monkeypatch.setattr(flow, "optical_flow", counted)
    return calls


def inverted(store: Path | None) -> tokenflow.InvertedClip:
    clip = tokenflow.Video(moving_square(FRAMES), rate=5)
    return tokenflow.invert(clip, tiny_model(), "a dog", size=16, cuts=(), steps=3, store=store)


def edit(source: tokenflow.InvertedClip, **options: Any) -> np.ndarray:
    return tokenflow.edit(source, "a cat", keyframe_interval=3, **options).decoded


def test_a_second_edit_estimates_no_flow_and_is_the_same_to_the_bit(tmp_path: Path, estimated: list[int]) -> None:
    first = edit(inverted(tmp_path))
    assert len(estimated) == 2 * (FRAMES - 1)
    second = edit(inverted(tmp_path))
    assert len(estimated) == 2 * (FRAMES - 1)
    assert np.array_equal(first, second)
    assert np.array_equal(first, edit(inverted(None)))  # which estimates all of it


def test_an_edit_with_other_keyframes_takes_the_flow_between_neighbours(tmp_path: Path, estimated: list[int]) -> None:
    edit(inverted(tmp_path))
    before = len(estimated)
    other = edit(inverted(tmp_path), seed=1)
    assert len(estimated) == before
    assert np.array_equal(other, edit(inverted(None), seed=1))


def test_flow_of_another_estimator_is_not_taken(
    tmp_path: Path, estimated: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    edit(inverted(tmp_path))
    before = len(estimated)
    monkeypatch.setattr(flow.cv2, "__version__", "another")
    edit(inverted(tmp_path))
    assert len(estimated) == 2 * before


def test_the_next_edit_after_a_cancelled_one_takes_what_was_found(tmp_path: Path, estimated: list[int]) -> None:
    with pytest.raises(tokenflow.Cancelled):
        edit(inverted(tmp_path), cancel=lambda: bool(estimated))
    found = len(estimated)
    assert found > 0
    edit(inverted(tmp_path))
    assert len(estimated) == 2 * (FRAMES - 1)


def test_kept_flow_counts_as_a_part_of_its_inversion_and_leaves_the_edit_of_another_run_valid(tmp_path: Path) -> None:
    source = inverted(tmp_path)
    (before,) = listed_inversions(tmp_path)
    digest = source.inversion.digest  # type: ignore[attr-defined]  # of a stored one
    edit(source)
    (after,) = listed_inversions(tmp_path)
    kept = sum(path.stat().st_size for path in after.folder.glob("*.pairs"))
    assert after.bytes == before.bytes + kept
    assert after.flow_bytes == kept > 0
    assert inverted(tmp_path).inversion.digest == digest  # type: ignore[attr-defined]


def test_an_edit_whose_flow_cannot_be_kept_is_made_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = edit(inverted(None))
    source = inverted(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tokenflow.store.kept_pairs._write", full)
    with pytest.warns(TokenflowWarning, match=r"flow_(steps|fields).pairs \(No space left on device\)"):
        assert np.array_equal(edit(source), expected)
    assert not [*source.inversion.folder.glob("*.pairs*")]  # type: ignore[attr-defined]
