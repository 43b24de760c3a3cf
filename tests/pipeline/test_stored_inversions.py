"""Stored inversions: how their folders are named, how they are found again, and when a finer one is reused."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tokenflow
from tests.tiny import moving_square, save_tiny_setup, tiny_model
from tokenflow import Video
from tokenflow.apps.result_lines import edit_lines
from tokenflow.config import Config
from tokenflow.pipeline.inversion import folder_name
from tokenflow.pipeline.job import find_inversion

CLIP = Video(moving_square(3), rate=10)
DIGEST = "0123456789ab"


@given(clip=st.text(), prompt=st.text())
def test_any_clip_and_prompt_give_a_name_that_every_file_system_takes(clip: str, prompt: str) -> None:
    name = folder_name(clip, prompt, DIGEST)
    assert len(name.encode()) <= 100
    assert not set(name) & set('<>:"/\\|?*. ')
    assert name.isprintable()
    assert name.endswith(DIGEST)


@pytest.mark.parametrize(
    ("clip", "prompt", "name"),
    [
        ("dog_walk", "a dog on grass, 3d style", f"dog_walk-a_dog_on_grass_3d_style-{DIGEST}"),
        ("%04d", "", f"04d-{DIGEST}"),
        ("CON.1", "ein Hund: läuft?", f"CON_1-ein_Hund_läuft-{DIGEST}"),
        ("cafe\u0301", "x" * 200, f"café-{'x' * 50}-{DIGEST}"),
        ("犬" * 40, "走る犬", f"{'犬' * 12}-走る犬-{DIGEST}"),
    ],
)
def test_the_name_says_clip_and_prompt(clip: str, prompt: str, name: str) -> None:
    assert folder_name(clip, prompt, DIGEST) == name


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_setup(tmp_path_factory.mktemp("setup"), frames=3, steps=2)


def configured(path: Path, folder: Path, *overrides: str) -> Config:
    places = [f"output.dir={folder / 'out'}", f"trajectories.dir={folder / 'trajectories'}"]
    return tokenflow.load_config(path, ["edit.steps=2", *places, *overrides], {})


def test_a_renamed_clip_and_an_inversion_of_an_earlier_name_are_found(path: Path, tmp_path: Path) -> None:
    folder = tokenflow.preprocess(configured(path, tmp_path)).folder
    assert folder.name.startswith("clip-a_dog-")
    earlier = folder.rename(folder.with_name(f"clip-{folder.name[-12:]}"))
    renamed = tmp_path / "renamed.mp4"
    renamed.write_bytes((path.parent / "clip.mp4").read_bytes())
    for clip in (path.parent / "clip.mp4", renamed):
        assert tokenflow.preprocess(configured(path, tmp_path, f"clip.path={clip}")).folder == earlier
    assert find_inversion(configured(path, tmp_path)).complete


def invert(store: Path, steps: int, *, reuse: bool = True, iterations: int = 1, prompt: str = "a dog") -> int:
    """Invert with the tiny model, and return how many steps the inversion took."""
    return tokenflow.invert(
        CLIP, tiny_model(), prompt, steps=steps, iterations=iterations, store=store, reuse=reuse
    ).steps


def test_the_finest_inversion_that_is_stored_is_reused_when_asked_for(tmp_path: Path) -> None:
    for steps in (4, 6):
        assert invert(tmp_path, steps, reuse=False) == steps
    assert invert(tmp_path, 3) == 6
    assert invert(tmp_path, 4) == 4  # since just this one is there
    assert len(list(tmp_path.iterdir())) == 2
    assert invert(tmp_path, 3, reuse=False) == 3
    assert len(list(tmp_path.iterdir())) == 3


def test_a_coarser_inversion_or_one_of_something_else_is_not_reused(tmp_path: Path) -> None:
    invert(tmp_path, 4, reuse=False)
    assert invert(tmp_path, 5) == 5
    assert invert(tmp_path, 2, iterations=2) == 2
    assert invert(tmp_path, 2, prompt="a cat") == 2
    assert tokenflow.invert(CLIP, tiny_model(), "a dog", size=24, steps=2, store=tmp_path, reuse=True).steps == 2


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"format": 4, "complete": false, "made_from": {}}', "\x00"])
def test_an_inversion_that_is_damaged_or_not_complete_is_not_reused(manifest: str, tmp_path: Path) -> None:
    invert(tmp_path, 3, reuse=False)
    (folder,) = tmp_path.iterdir()
    (folder / "manifest.json").write_text(manifest, encoding="utf-8")
    assert invert(tmp_path, 2) == 2


def test_the_report_names_the_inversion_that_was_used(path: Path, tmp_path: Path) -> None:
    finer = tokenflow.preprocess(configured(path, tmp_path, "inversion.steps=5")).folder
    lossless = "output.codec=ffv1", "output.container=mkv"
    result = tokenflow.run(configured(path, tmp_path, "inversion.reuse=true", *lossless))
    assert json.loads((tmp_path / "out" / "report.json").read_text())["inversion"] == {
        "folder": finer.name,
        "steps": 5,
        "iterations": 1,
    }
    said = f"{finer.name}, reused: it has 5 steps, where 2 steps were asked for"
    assert said in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert ["inversion", said] in [line.split(maxsplit=1) for line in edit_lines(result)]
    assert find_inversion(configured(path, tmp_path, "inversion.reuse=true")).folder == finer
    reused = result.frames
    exact = tokenflow.run(configured(path, tmp_path, *lossless))
    assert exact.report["inversion"]["steps"] == 2
    assert "reused" not in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert exact.report["inversion"]["folder"] != finer.name
    assert not np.array_equal(exact.frames, reused)
