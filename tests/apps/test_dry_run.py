"""`tokenflow edit --dry-run`: what would be done, before and after the clip was inverted."""

import re
from pathlib import Path

import pytest

from tests.apps.conftest import status
from tests.tiny import moving_square, save_tiny_model
from tokenflow.apps.dry_run import dry_run
from tokenflow.config import load_config
from tokenflow.video import VideoWriter


def test_a_dry_run_prints_what_would_be_done_and_writes_nothing(
    settings: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tiny_model(tmp_path / "model")
    with VideoWriter(tmp_path / "clip.mp4", width=24, height=16, rate=10) as video:
        for image in moving_square(5):
            video.write(image)
    words = [settings, "clip.size=16", "inversion.steps=2", "inversion.warn_below_psnr=0", "edit.steps=2"]

    def planned() -> dict[str, str]:
        capsys.readouterr()
        before = sorted(tmp_path.rglob("*"))
        assert status("edit", *words, "--dry-run") == 0
        assert sorted(tmp_path.rglob("*")) == before
        return dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())

    first = planned()
    assert list(first) == ["frames", "stages", "time", "memory", "disk", "output"]
    assert first["frames"] == "5 of 24×16"
    assert first["stages"] == "read, encode, invert, reconstruct, compare, flow, edit, decode"
    assert re.fullmatch(r"about \d+ s", first["time"])
    assert re.fullmatch(r"about \S+ [MG]B of \S+ GB main memory", first["memory"])
    sizes = r"\S+ kB inversion, \S+ kB flow kept with it, \S+ kB scratch while it runs, \S+ kB result"
    assert re.fullmatch(rf"about {sizes}; .* free", first["disk"])
    assert first["output"] == str(tmp_path / "out")

    assert status("preprocess", *words, "--quiet") == 0
    second = planned()
    assert second["stages"] == "flow, edit, decode"
    assert re.fullmatch(r"about \d+ s", second["time"])
    assert "inversion" not in second["disk"]
    assert status("edit", *words, "--quiet") == 0
    assert "flow kept" not in planned()["disk"]


def test_a_dry_run_without_the_model_tells_neither_time_nor_memory(
    settings: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with VideoWriter(tmp_path / "clip.mp4", width=24, height=16, rate=10) as video:
        for image in moving_square(5):
            video.write(image)
    assert status("edit", settings, "model.path=somebody/model", "clip.size=64", "--dry-run") == 0
    assert capsys.readouterr().out.count("unknown until the model is on this machine") == 2


def test_what_is_not_timed_is_told_to_be_known_after_the_inversion(settings: str, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "clip.mp4", width=24, height=16, rate=10) as video:
        for image in moving_square(5):
            video.write(image)
    found = dry_run(load_config(Path(settings)), timed=False)
    assert found["time"] == "unknown until the clip is inverted with these settings"


def test_a_dry_run_of_seeds_takes_the_time_of_each_and_writes_one_image(
    settings: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tiny_model(tmp_path / "model")
    with VideoWriter(tmp_path / "clip.mp4", width=24, height=16, rate=10) as video:
        for image in moving_square(5):
            video.write(image)
    words = [settings, "clip.size=16", "inversion.steps=2", "edit.steps=2", "--dry-run"]

    def result(*options: str) -> str:
        assert status("edit", *words, *options) == 0
        found = re.search(r"(\S+ .B) result", capsys.readouterr().out)
        assert found is not None
        return found[1]

    assert result("--seeds", "2") != result()


def test_a_dry_run_finds_a_clip_that_is_missing_or_too_short(
    settings: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status("edit", settings, "--dry-run") == 2
    assert "there is no clip at" in capsys.readouterr().err
    with VideoWriter(tmp_path / "clip.mp4", width=24, height=16, rate=10) as video:
        for image in moving_square(3):
            video.write(image)
    assert status("edit", settings, "edit.keyframe_interval=9", "--dry-run") == 2
    assert "edit.keyframe_interval is 9 but the clip has 3 frames" in capsys.readouterr().err


def test_a_dry_run_with_a_model_of_few_steps_inverts_nothing(
    settings: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tiny_model(tmp_path / "model")
    with VideoWriter(tmp_path / "clip.mp4", width=24, height=16, rate=10) as video:
        for image in moving_square(5):
            video.write(image)
    assert status("edit", settings, "clip.size=16", "edit.steps=2", "model.few_step=true", "--dry-run") == 0
    assert "read, encode, flow, edit, decode" in capsys.readouterr().out
