"""Whole edits with tiny random Sana and SANA-Sprint, as a caller makes them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tokenflow
from tests.tiny import moving_square
from tests.tiny_sana import WORDS, save_tiny_sana_controlnet, tiny_sana, tiny_sana_pipeline, tiny_sprint
from tokenflow import ControlNet, PnP, Progress, SDEdit
from tokenflow.config import Config
from tokenflow.diffusion.batches import as_images
from tokenflow.errors import TokenflowWarning
from tokenflow.events import Event, Notice
from tokenflow.models.sana import Sana
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline.editing import ModeSettings
from tokenflow.video import Video, VideoWriter, read_frames

PROMPT = "a dog on grass"

STEPS = 4

CLIP = Video(moving_square(6, height=32, width=32), rate=1)


@pytest.fixture(scope="module")
def source() -> InvertedClip:
    return tokenflow.invert(CLIP, tiny_sana(), PROMPT, steps=STEPS, iterations=10, size=32)


@pytest.fixture(scope="module")
def controlnet(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_sana_controlnet(tmp_path_factory.mktemp("controlnet")))


def mode_of(name: str, controlnet: str) -> ModeSettings:
    modes = {"pnp": PnP(), "residual": PnP(features="residual"), "sdedit": SDEdit(strength=0.5)}
    return modes.get(name, ControlNet(path=controlnet))


@pytest.mark.parametrize("options", [{}, {"propagation": "none"}, {"correspondence": "nearest"}], ids=str)
@pytest.mark.parametrize("name", ["pnp", "residual", "sdedit", "controlnet"])
def test_every_mode_edits_a_clip(name: str, options: dict[str, Any], source: InvertedClip, controlnet: str) -> None:
    edited = tokenflow.edit(source, "a golden tiger", mode=mode_of(name, controlnet), **options)
    assert edited.frames.shape == CLIP.frames.shape
    reconstructed = as_images(source.model.decode(source.latents(source.model.schedule.clean)))
    assert np.abs(edited.decoded.astype(int) - reconstructed).mean() > 0.1


@pytest.mark.parametrize("features", ["block", "residual"])
def test_with_the_sources_prompt_and_full_injection_the_source_comes_back(features: str, source: InvertedClip) -> None:
    mode = PnP(features_until=1, attention_until=1, features=features)
    edited = tokenflow.edit(source, PROMPT, mode=mode, guidance_scale=1, propagation="none")
    reconstructed = as_images(source.model.decode(source.latents(source.model.schedule.clean)))
    # Levels are stored in float16, and the random decoder amplifies single latents.
    assert np.abs(edited.decoded.astype(int) - reconstructed).mean() <= 1


def test_edited_per_frame_a_clip_is_what_sanas_pipeline_makes_of_each_frames_latents(source: InvertedClip) -> None:
    mode = SDEdit(strength=1, noise="shared")
    edited = tokenflow.edit(source, "a golden tiger", mode=mode, guidance_scale=4.5, propagation="none", seed=3)
    pipeline = tiny_sana_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    start = source.noised(source.model.schedule.steps(STEPS)[0].at, "shared", 3)
    expected = pipeline(
        ["a golden tiger"] * 6,
        num_inference_steps=STEPS,
        guidance_scale=4.5,
        latents=start[list(range(6))],
        height=32,
        width=32,
        use_resolution_binning=False,
        max_sequence_length=32,
        complex_human_instruction=None,
        output_type="np",
    ).images
    assert np.abs(edited.decoded / 255 - expected).max() <= 0.5 / 255 + 1e-5


def test_images_from_a_prompt_are_those_of_sanas_pipeline_from_the_same_seed() -> None:
    pipeline = tiny_sana_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        ["a dog"] * 2,
        num_inference_steps=3,
        guidance_scale=4.5,
        generator=torch.Generator().manual_seed(5),
        height=32,
        width=64,
        use_resolution_binning=False,
        max_sequence_length=32,
        complex_human_instruction=None,
        output_type="np",
    ).images
    images = tokenflow.generate(
        Sana(pipeline, WORDS), "a dog", guidance_scale=4.5, seed=5, steps=3, size=(64, 32), count=2
    )
    assert np.abs(images / 255 - expected).max() <= 0.5 / 255 + 1e-5


def configured(folder: Path, **edit: Any) -> Config:
    with VideoWriter(folder / "clip.mp4", width=24, height=16, rate=10) as video:
        for image in moving_square(5):
            video.write(image)
    content = {
        "clip": {"path": folder / "clip.mp4", "prompt": PROMPT, "size": 16},
        "model": {"path": "unused", "device": "cpu"},
        "inversion": {"steps": 2, "warn_below_psnr": 0},
        "edit": {"prompt": "a golden tiger", "steps": 2, "keyframe_interval": 2, **edit},
        "output": {"dir": folder / "out"},
        "trajectories": {"dir": folder / "trajectories"},
    }
    return Config.model_validate(content)


def stages(events: list[Event]) -> list[tuple[str, int | None, int | None]]:
    progress = [event for event in events if isinstance(event, Progress)]
    return list(dict.fromkeys((event.stage, event.number, event.stages) for event in progress))


def test_a_run_from_file_to_file_checks_the_reconstruction(tmp_path: Path) -> None:
    result = tokenflow.run(configured(tmp_path), model=tiny_sana())
    assert len(list(read_frames(result.video))) == 5
    assert result.report["inversion"]["steps"] == 2
    assert result.report["metrics"]["reconstruction"]["autoencoder_psnr"] > 0


def test_a_run_with_a_model_of_few_steps_stores_clean_latents_and_checks_no_reconstruction(tmp_path: Path) -> None:
    config, events = configured(tmp_path), list[Event]()
    model = tiny_sprint()
    with pytest.warns(TokenflowWarning, match="cannot be inverted"):
        stored = tokenflow.preprocess(config, model=model)
    assert (stored.report, stored.reconstruction) == (None, None)
    result = tokenflow.run(config, model=model, on_event=events.append)
    assert stages(events) == [("flow", 1, 3), ("edit", 2, 3), ("decode", 3, 3)]
    assert result.report["inversion"]["steps"] == 0
    assert "reconstruction" not in result.report["metrics"]
    assert "reused" not in (result.page or Path()).read_text(encoding="utf-8")


def test_an_edit_of_few_steps_that_was_interrupted_continues_with_the_same_bits(tmp_path: Path) -> None:
    model = tiny_sprint()
    config = configured(tmp_path, mode="sdedit", sdedit={"strength": 1}, steps=4)
    with pytest.warns(TokenflowWarning, match="cannot be inverted"):
        tokenflow.preprocess(config, model=model)
    elsewhere = config.output.model_copy(update={"dir": tmp_path / "whole"})
    whole = tokenflow.run(config.model_copy(update={"output": elsewhere}), model=model)

    def stop(event: Event) -> None:
        if isinstance(event, Progress) and (event.stage, event.done) == ("edit", 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tokenflow.run(config, model=model, on_event=stop)
    resumed = tokenflow.run(config, model=model)
    assert np.array_equal(resumed.frames, whole.frames)


def test_a_trial_and_a_sheet_of_seeds_work_with_a_model_of_few_steps(tmp_path: Path) -> None:
    config, model, events = configured(tmp_path, variation=1.0), tiny_sprint(), list[Event]()
    tried = tokenflow.trial(config, 2, model=model, on_event=events.append)
    assert any(isinstance(event, Notice) and "cannot be inverted" in event.message for event in events)
    assert tried.edited.shape == (2, 16, 24, 3)
    names = ["read", "encode", "edit", "decode"]
    assert stages(events) == [(name, place, 4) for place, name in enumerate(names, 1)]
    with pytest.warns(TokenflowWarning, match="cannot be inverted"):
        sheet = tokenflow.seed_sheet(config, 2, model=model)
    assert sheet.is_file()
