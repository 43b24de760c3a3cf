"""Uploads are decoded elsewhere: what a decoder does there, the server only hears of."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tokenflow.apps.server import decoding
from tokenflow.apps.server.decoding import Inspector
from tokenflow.apps.server.edits import Asked, configuration
from tokenflow.apps.server.folders import Folders
from tokenflow.apps.server.problems import Problem
from tokenflow.apps.server.settings import Limits, ServerSettings
from tokenflow.config import Config

pytestmark = pytest.mark.serve


@pytest.fixture
def config(settings: ServerSettings, clip: Path, folders: Folders) -> Config:
    asked = Asked("a tiger", "a dog", None, None, None, None, None, {}, clip, None, {})
    return configuration(asked, settings.variants["standard"], folders.root / "inversions", folders.root / "out")


def refusal(inspector: Inspector, config: Config, limits: Limits) -> Problem:
    with pytest.raises(Problem) as refused:
        inspector.inspect(config, limits)
    return refused.value


def test_a_clip_is_measured(config: Config, folders: Folders) -> None:
    found = Inspector(60, folders).inspect(config, Limits())
    assert (found.frames, found.width, found.height, found.duration) == (4, 24, 16, 0.4)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"frames": 3}, "the clip has more than 3 frames"),
        ({"seconds": 0.3}, "longer than 0.3 s"),
        ({"pixels": 24 * 16 - 1}, "clip.mp4 is 24×16, more than 383 pixels"),
        ({"working_pixels": 100}, "expected at most 100 pixels to work at, got 24×16"),
    ],
)
def test_what_is_more_than_the_limits_allow_is_too_large(
    limits: dict[str, Any], message: str, config: Config, folders: Folders
) -> None:
    refused = refusal(Inspector(60, folders), config, Limits(**limits))
    assert refused.status_code == 413
    assert message in refused.detail


def test_decoding_ends_after_some_time(config: Config, folders: Folders) -> None:
    refused = refusal(Inspector(0.0, folders), config, Limits())
    assert (refused.status_code, "took more than 0 s to decode" in refused.detail) == (413, True)


def crash(connection: Any, *arguments: Any) -> None:
    """In the place of a decoder with a hole in it."""
    os.kill(os.getpid(), signal.SIGSEGV)


def test_a_decoder_that_crashes_is_an_answer(config: Config, folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_look", crash)
    refused = refusal(Inspector(60, folders), config, Limits())
    assert (refused.status_code, "a decoder crashed" in refused.detail) == (422, True)
