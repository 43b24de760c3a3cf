"""A job is shown in plain words, whatever it holds is escaped, and a preview is an image."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.tiny import moving_square
from tokenflow.apps.web.jobs import Job, State
from tokenflow.apps.web.progress_view import STAGES, bytes_of, duration, outlook_html, preview_html, status_html
from tokenflow.config import Config
from tokenflow.errors import ConfigError
from tokenflow.events import Notice, Preview, Progress
from tokenflow.pipeline import stages


def job(prompt: str = "a tiger") -> Job:
    config = Config.model_validate(
        {
            "clip": {"path": Path("clip.mp4"), "prompt": "a dog"},
            "model": {"path": "model"},
            "edit": {"prompt": prompt},
            "output": {"dir": Path("out")},
        }
    )
    return Job("whole", (config,), lambda on_event, cancel: None)


def test_stage_step_and_time_left_are_shown() -> None:
    running = job()
    running.become("running")
    running.on_event(Progress("invert", 3, 25, 10.0, number=2, stages=5, run_seconds_left=200.0))
    shown = status_html(running, 0)
    assert "Stage 2 of 5: Inverting the clip, step 3 of 25, about 3 min left" in shown
    assert 'value="3" max="25"' in shown


def test_a_single_step_is_not_counted() -> None:
    running = job()
    running.become("running")
    running.on_event(Progress("load", 0, 1, label="mini-sd on cpu"))
    shown = status_html(running, 0)
    assert "Loading the model (mini-sd on cpu)</p>" in shown
    assert '<progress aria-label="Loading the model" ></progress>' in shown


def test_a_download_is_shown_in_bytes_and_per_cent() -> None:
    running = job()
    running.become("running")
    running.on_event(
        Progress("download", 1_200_000_000, 3_400_000_000, 90.0, label="sd: unet/a.safetensors and 1 more")
    )
    shown = status_html(running, 0)
    assert "Downloading (sd: unet/a.safetensors and 1 more), 1.2 of 3.4 GB (35 %), about 90 s left" in shown
    assert bytes_of(500_000, 2_000_000) == "0.5 of 2.0 MB (25 %)"
    assert bytes_of(5_000_000, 20_000_000) == "5 of 20 MB (25 %)"


def test_an_estimate_says_what_the_command_line_says() -> None:
    found = {"frames": "8 of 16×16", "stages": "edit", "time": "about 2 s", "memory": "unknown", "disk": "little"}
    shown = outlook_html(found | {"output": "/srv/secret"})
    assert "<dt>Time</dt><dd>about 2 s</dd>" in shown
    assert "secret" not in shown


@pytest.mark.parametrize(
    ("state", "ahead", "text"),
    [
        ("waiting", 1, "1 edit is done first"),
        ("waiting", 2, "2 edits are done first"),
        ("cancelled", 0, "What was finished is kept"),
        ("done", 0, "Done"),
    ],
)
def test_each_state_is_told(state: State, ahead: int, text: str) -> None:
    shown = job()
    shown.become(state)
    assert text in status_html(shown, ahead)
    assert f'data-state="{state}"' in status_html(shown, ahead)


def test_an_error_is_told_in_its_own_words_and_a_bug_is_called_one() -> None:
    failed = job()
    failed.error = ConfigError("edit.steps is 2000 but the model has 1000 levels")
    failed.become("failed")
    assert "edit.steps is 2000 but the model has 1000 levels" in status_html(failed, 0)
    failed.error = ZeroDivisionError("inside")
    assert "fault of tokenflow" in status_html(failed, 0)


def test_what_a_user_or_a_file_says_is_escaped() -> None:
    shown = job("<script>alert(1)</script>")
    shown.on_event(Notice("<b>bold</b>"))
    assert not re.search("<script|<b>", status_html(shown, 0))


def test_a_preview_shows_its_frames_side_by_side_enlarged() -> None:
    frames = moving_square(2)
    html = preview_html(Preview(4, (0, 5), frames))
    data = re.search(r"base64,([^\"]+)", html)
    assert data is not None
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(data[1]))))
    factor = image.shape[0] // frames.shape[1]
    assert np.array_equal(image[::factor, ::factor], np.concatenate(list(frames), 1))
    assert "after step 5, 2 frames" in html
    assert preview_html(None) == ""


def test_every_stage_of_a_run_has_words() -> None:
    assert set(STAGES) == {"load", "download", *stages.STAGES}


def test_durations_are_round() -> None:
    assert [duration(seconds) for seconds in (0.2, 12.4, 119, 150)] == ["1 s", "12 s", "119 s", "2 min"]
