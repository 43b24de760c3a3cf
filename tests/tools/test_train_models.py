import importlib.util
import subprocess
import time

import pytest

from tools import train_models
from tools.train_models import MODELS, SHARED, command, run_stages


@pytest.mark.parametrize("model", MODELS)
def test_the_stages_of_a_model_share_its_minutes(model, tmp_path, monkeypatch):
    asked, now = [], [0.0]

    def run(words, **_):
        minutes = float(words[words.index("--minutes") + 1]) if "--minutes" in words else 0.0
        asked.append(minutes)
        now[0] += 60 * minutes + 3  # seconds to start

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(subprocess, "run", run)
    run_stages(MODELS[model], tmp_path, workers=2, deadline=600)
    shares = [stage.share for stage in MODELS[model]]
    assert [minutes > 0 for minutes in asked] == [share > 0 for share in shares]
    assert sum(asked) == pytest.approx(10, abs=0.05 * len(shares))


def test_every_stage_is_a_command_with_its_options():
    for stage in [*SHARED, *(stage for stages in MODELS.values() for stage in stages)]:
        assert importlib.util.find_spec(f"tools.{stage.name}")
        words = command(stage, train_models.RUNS, workers=4, minutes=None)
        assert "--minutes" not in words
        assert ("--workers" in words) == stage.draws
