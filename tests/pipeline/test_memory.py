"""The estimate of memory by shapes, beside what is counted on real models, and what is said before the work."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tokenflow
from tests.tiny import moving_square, save_tiny_setup, tiny_pipeline, tiny_xl_pipeline
from tests.tiny_flux import tiny_flux2_pipeline, tiny_flux_pipeline
from tests.tiny_sana import tiny_sana_pipeline
from tokenflow.config import Config, load_config
from tokenflow.errors import ConfigError, TokenflowWarning
from tokenflow.models.loading import load_model
from tokenflow.pipeline import memory
from tokenflow.pipeline.memory import MemoryEstimate, check_memory, estimate_memory
from tokenflow.report.live_bytes import LiveBytes

FRAMES, STEPS, SIDE = 12, 2, 32
PIPELINES: dict[str, Callable[[], Any]] = {
    "SD": tiny_pipeline,
    "SDXL": tiny_xl_pipeline,
    "Sana": tiny_sana_pipeline,
    "FLUX.1": tiny_flux_pipeline,
    "FLUX.2": tiny_flux2_pipeline,
}


def configured(model: Path, **edit: Any) -> Config:
    return Config.model_validate(
        {
            "clip": {"path": "clip.mp4", "prompt": "a dog"},
            "model": {"path": str(model), "device": "cpu", "dtype": "float32"},
            "inversion": {"steps": STEPS},
            "edit": {"prompt": "a cat", "steps": STEPS, **edit},
            "output": {"dir": "out"},
        }
    )


@pytest.mark.parametrize("family", PIPELINES)
def test_the_estimate_is_what_is_counted_on_the_real_model_within_a_fifth(family: str, tmp_path: Path) -> None:
    PIPELINES[family]().save_pretrained(tmp_path / "model")
    config = configured(tmp_path / "model")
    estimate = estimate_memory(config, FRAMES, (SIDE, SIDE))
    assert estimate is not None
    model = load_model(tmp_path / "model", device="cpu", dtype="float32")
    clip = tokenflow.Video(moving_square(FRAMES, SIDE, SIDE), rate=8)
    with LiveBytes() as counted:
        inverted = tokenflow.invert(clip, model, "a dog", size=SIDE, cuts=(), steps=STEPS)
        tokenflow.edit(inverted, "a cat", steps=STEPS)
    assert max(estimate.stages.values()) == pytest.approx(counted.peak, rel=0.2)


def test_settings_that_save_memory_lower_the_estimate(tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path / "model")

    def peak(size: int, **edit: Any) -> MemoryEstimate:
        estimate = estimate_memory(configured(tmp_path / "model", **edit), 24, (size, size))
        assert estimate is not None
        return estimate

    whole = peak(32)
    assert peak(32, keyframe_window=2, batch_size=2).stages["edit"] < whole.stages["edit"] < peak(64).stages["edit"]
    offloaded = MemoryEstimate(whole.weights, whole.denoiser, whole.stages, offload=True)
    assert offloaded.peak < whole.peak


@pytest.mark.parametrize("kind", ["identity", "style"])
def test_references_that_attention_reads_do_not_count(kind: str, tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path / "model")
    plain = estimate_memory(configured(tmp_path / "model"), FRAMES, (SIDE, SIDE))
    references = [{"path": str(tmp_path / "tiger.png"), "kind": kind}]
    assert estimate_memory(configured(tmp_path / "model", references=references), FRAMES, (SIDE, SIDE)) == plain


def test_nothing_is_told_of_a_model_that_is_not_here() -> None:
    assert estimate_memory(configured(Path("somebody/model")), 24, (32, 32)) is None


@pytest.fixture
def setup(tmp_path: Path) -> Config:
    return load_config(save_tiny_setup(tmp_path, 5, 2))


def test_too_little_memory_is_said_before_the_work(setup: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "device_memory", lambda config: 10**5)
    with pytest.warns(
        TokenflowWarning, match=r"takes about .* of main memory, which has 100 kB; set model.offload=true"
    ):
        check_memory(setup)
    monkeypatch.setattr(memory, "choose_device", lambda name: type("Device", (), {"type": "cuda"}))
    monkeypatch.setattr(tokenflow.pipeline.job, "open_model", lambda *_: pytest.fail("the model was loaded"))
    with pytest.raises(ConfigError, match="of the device's memory"):
        tokenflow.run(setup)
    assert not setup.output.dir.exists()


def test_nothing_is_counted_where_memory_is_ample(setup: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "estimate_memory", lambda *_: pytest.fail("it was counted"))
    check_memory(setup)


def test_a_real_value_passes_a_count_unchanged() -> None:
    with LiveBytes() as counted:
        kept = tokenflow.Video(np.zeros((2, 4, 4, 3), np.uint8), rate=1)
    assert counted.peak == 0
    assert len(kept) == 2
