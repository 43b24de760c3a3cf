import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenflow.diffusion.levels import CLEAN_TIME, Level
from tokenflow.errors import ClipNotFoundError, OutputError, TrajectoryError
from tokenflow.store.files import LOCK
from tokenflow.store.inversions import StoredInversion

CLEAN = Level(0.9995, 0.0305, CLEAN_TIME)
NOISY = Level(0.6, 0.8, 41)
NOISIER = Level(0.3, 0.9539392014169456, 81)
MADE_FROM = {"clip": "abc", "model": "def"}
LATENTS = torch.randn(5, 4, 3, 2)


def filled(folder: Path) -> StoredInversion:
    inversion = StoredInversion(folder, MADE_FROM)
    frames = np.arange(5 * 6 * 4 * 3, dtype=np.uint8).reshape(5, 6, 4, 3)
    inversion.write_frames((frame, Fraction(index, 30), Fraction(1, 7)) for index, frame in enumerate(frames))
    inversion.write_latents(CLEAN, [LATENTS])
    inversion.write_latents(NOISY, [LATENTS + 1])
    return inversion


def test_latents_in_half_precision_take_half_the_space_and_are_read_in_single(tmp_path: Path) -> None:
    inversion = filled(tmp_path)
    inversion.write_latents(NOISIER, [LATENTS.half()])
    files = [(tmp_path / f"{level.name}.safetensors").stat().st_size for level in (NOISY, NOISIER)]
    assert files[0] - files[1] == 2 * LATENTS.numel()
    for indices in (None, [3, 1]):
        read = StoredInversion(tmp_path, MADE_FROM).latents(NOISIER, indices)
        assert read.dtype == torch.float32
        assert torch.equal(read, (LATENTS if indices is None else LATENTS[indices]).half().float())


def test_what_was_written_is_read_back_by_another_process(tmp_path: Path) -> None:
    filled(tmp_path)
    inversion = StoredInversion(tmp_path, MADE_FROM)
    assert torch.equal(inversion.latents(CLEAN), LATENTS)
    assert torch.equal(inversion.latents(NOISY), LATENTS + 1)
    assert inversion.times == tuple(Fraction(index, 30) for index in range(5))
    assert inversion.end == Fraction(4, 30) + Fraction(1, 7)
    assert inversion.frames().shape == (5, 6, 4, 3)
    assert inversion.frames()[1][0, 0, 0] == 72
    assert not inversion.complete


def test_levels_are_read_back_exactly_from_the_cleanest_on(tmp_path: Path) -> None:
    inversion = filled(tmp_path)
    inversion.write_latents(NOISIER, [LATENTS])
    assert StoredInversion(tmp_path, MADE_FROM).levels == [CLEAN, NOISY, NOISIER]


def test_an_inversion_without_a_reconstruction_check_has_no_report(tmp_path: Path) -> None:
    assert filled(tmp_path).report() is None


def test_some_frames_latents_are_read_in_the_order_asked_for(tmp_path: Path) -> None:
    assert torch.equal(filled(tmp_path).latents(CLEAN, [3, 0]), LATENTS[[3, 0]])


def test_an_inversion_is_complete_once_it_was_finished(tmp_path: Path) -> None:
    filled(tmp_path).finish()
    assert StoredInversion(tmp_path, MADE_FROM).complete


def test_a_step_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(TrajectoryError, match=r"no latents at level s0\.76\d+.*s0\.571429"):
        filled(tmp_path).latents(NOISIER)


@pytest.mark.parametrize("name", ["clean.safetensors", "s0.571429.safetensors", "frames.rgb"])
@pytest.mark.parametrize("place", [3, -1])
def test_a_flipped_byte_is_noticed_and_the_file_named(name: str, place: int, tmp_path: Path) -> None:
    filled(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[place] ^= 1
    (tmp_path / name).write_bytes(content)
    inversion = StoredInversion(tmp_path, MADE_FROM)
    with pytest.raises(TrajectoryError, match=rf"{name} is damaged.*delete the folder"):
        inversion.frames() if name == "frames.rgb" else inversion.latents(CLEAN if name[0] == "c" else NOISY)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / "s0.571429.safetensors").unlink()
    with pytest.raises(TrajectoryError, match=r"s0\.571429\.safetensors cannot be read"):
        StoredInversion(tmp_path, MADE_FROM).latents(NOISY)


def test_an_inversion_of_another_model_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    with pytest.raises(TrajectoryError, match="made from another model"):
        StoredInversion(tmp_path, {**MADE_FROM, "model": "xyz"})


def test_a_manifest_of_another_format_or_damaged_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    path = tmp_path / "manifest.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "format": 99}))
    with pytest.raises(TrajectoryError, match="format 99"):
        StoredInversion(tmp_path, MADE_FROM)
    path.write_text("{")
    with pytest.raises(TrajectoryError, match="is damaged"):
        StoredInversion(tmp_path, MADE_FROM)


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_flipped_bit_in_the_manifest_is_noticed(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "manifest.json"
    if not path.exists():
        filled(tmp_path).write_report({"figure": 1})
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    # White space and letters' cases may say the same in JSON.
    said_the_same = _json(flipped) == json.loads(whole)
    try:
        path.write_bytes(flipped)
        if said_the_same:
            assert StoredInversion(tmp_path, MADE_FROM).report() == {"figure": 1}
        else:
            with pytest.raises(TrajectoryError, match="delete the folder"):
                StoredInversion(tmp_path, MADE_FROM)
    finally:
        path.write_bytes(whole)


def _json(content: bytes | bytearray) -> object:
    try:
        return json.loads(content)
    except ValueError:
        return None


def test_the_report_is_read_back_and_verified(tmp_path: Path) -> None:
    filled(tmp_path).write_report({"figure": 1})
    assert StoredInversion(tmp_path, MADE_FROM).report() == {"figure": 1}
    (tmp_path / "report.json").write_text('{"figure": 2}')
    with pytest.raises(TrajectoryError, match=r"report\.json is damaged.*delete the folder"):
        StoredInversion(tmp_path, MADE_FROM).report()


def test_what_a_killed_run_had_not_finished_writing_is_cleared_away(tmp_path: Path) -> None:
    inversion = filled(tmp_path)
    whole = {path.name for path in tmp_path.iterdir()}
    (tmp_path / ".s0.760756.safetensors.4711").touch()
    (tmp_path / ".reconstruction.mp4.0123abcd.part").touch()
    (tmp_path / ".reconstruction.mkv.89abcdef.part").touch()
    (tmp_path / ".manifest.json.4711").touch()
    (tmp_path / ".frames.rgb.4711").touch()
    with inversion.locked():
        assert {path.name for path in tmp_path.iterdir()} == whole | {LOCK}


def test_hidden_files_and_folders_of_somebody_else_stay(tmp_path: Path) -> None:
    inversion = filled(tmp_path)
    (tmp_path / ".notes").mkdir()
    (tmp_path / ".s0.760756.safetensors.4711").mkdir()
    (tmp_path / ".directory").write_text("the desktop's")
    before = {path.name for path in tmp_path.iterdir()}
    with inversion.locked():
        pass
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_clip_that_goes_missing_while_it_is_read_is_no_matter_of_writing(tmp_path: Path) -> None:
    def frames() -> Iterator[tuple[np.ndarray, Fraction, Fraction]]:
        yield np.zeros((2, 2, 3), np.uint8), Fraction(0), Fraction(1)
        raise ClipNotFoundError("there is no clip")

    with pytest.raises(ClipNotFoundError, match="there is no clip"):
        StoredInversion(tmp_path, MADE_FROM).write_frames(frames())


def test_frames_that_break_off_leave_nothing(tmp_path: Path) -> None:
    def frames() -> object:
        yield np.zeros((2, 2, 3), np.uint8), Fraction(0), Fraction(1)
        raise RuntimeError("the clip is damaged")

    inversion = StoredInversion(tmp_path, MADE_FROM)
    with pytest.raises(RuntimeError, match="the clip is damaged"):
        inversion.write_frames(frames())
    assert not inversion.has_frames
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(OutputError, match=r"trajectories\.dir"),
        StoredInversion(tmp_path / "file" / "x", MADE_FROM).locked(),
    ):
        pass
