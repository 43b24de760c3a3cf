"""tokenflow keyframes: the frames to edit."""

from pathlib import Path

import pytest

from tests.apps.conftest import status
from tests.tiny import save_tiny_setup


@pytest.mark.parametrize("source", ["clip.mp4", "config.yaml"])
def test_frames_of_a_clip_or_of_a_configurations_clip_are_written(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tiny_setup(tmp_path, frames=4, steps=2)
    output = tmp_path / "keyframes"
    assert status("keyframes", str(tmp_path / source), "--frames", "0,3", "--output", str(output)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == [str(output / "frame_00000.png"), str(output / "frame_00003.png")]
    assert lines[2] == f"Edit them, then: edit.mode=keyframes edit.keyframes.frames={output}"


@pytest.mark.parametrize("frames", ["", "a", "1;2", "-1", "1,"])
def test_what_is_no_list_of_frames_is_an_error(frames: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status("keyframes", "clip.mp4", "--frames", frames, "--output", str(tmp_path)) == 2
    assert "expected frame numbers, such as 0,12,23" in capsys.readouterr().err
