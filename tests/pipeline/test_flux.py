"""Whole edits with tiny random FLUX models, as a caller makes them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import tokenflow
from tests.tiny import moving_square, tiny_model
from tests.tiny_flux import save_tiny_flux_controlnet, tiny_flux, tiny_flux2, tiny_flux2_pipeline, tiny_flux_pipeline
from tokenflow import ControlNet, Instruct, PnP, Region, SDEdit
from tokenflow.config import Config
from tokenflow.diffusion.batches import as_images
from tokenflow.errors import ConfigError
from tokenflow.events import Event, Progress
from tokenflow.models.flux import Flux
from tokenflow.models.flux2 import Flux2
from tokenflow.modes.source import InvertedClip
from tokenflow.pipeline import kept_features
from tokenflow.video import Video, VideoWriter

PROMPT = "a dog on grass"

STEPS = 4

CLIP = Video(moving_square(5, height=32, width=32), rate=1)

MODELS = {"kontext": lambda: tiny_flux(kontext=True), "klein": tiny_flux2}


@pytest.fixture(scope="module", params=MODELS)
def source(request: Any) -> InvertedClip:
    return tokenflow.invert(CLIP, MODELS[request.param](), PROMPT, steps=STEPS, iterations=10, size=32)


def reconstructed(source: InvertedClip) -> np.ndarray:
    return as_images(source.model.decode(source.latents(source.model.schedule.clean)))


@pytest.mark.parametrize("options", [{}, {"propagation": "none"}, {"correspondence": "nearest"}], ids=str)
@pytest.mark.parametrize("mode", [PnP(), PnP(features="block"), SDEdit(strength=0.5), Instruct()], ids=repr)
def test_every_mode_edits_a_clip(mode: Any, options: dict[str, Any], source: InvertedClip) -> None:
    edited = tokenflow.edit(source, "a golden tiger", mode=mode, **options)
    assert edited.frames.shape == CLIP.frames.shape
    assert np.abs(edited.decoded.astype(int) - reconstructed(source)).mean() > 0.1


def test_a_controlnet_guides_an_edit(tmp_path: Path) -> None:
    model = tiny_flux()
    source = tokenflow.invert(CLIP, model, PROMPT, steps=STEPS, size=32)
    path = str(save_tiny_flux_controlnet(tmp_path, num_mode=2))
    strict, free = (
        tokenflow.edit(source, "a tiger", mode=ControlNet(path=path, scale=scale)).decoded for scale in (1.0, 0.0)
    )
    assert not np.array_equal(strict, free)


def test_a_region_is_found_by_words_in_joint_attention(source: InvertedClip) -> None:
    edited = tokenflow.edit(source, "a tiger on grass", mode=SDEdit(strength=0.5), regions=[Region(words="dog")])
    assert edited.masks is not None
    assert 0 < (edited.masks > 0).mean() < 1
    outside = edited.masks == 0
    assert np.array_equal(edited.frames[outside], CLIP.frames[outside])


def test_instructed_a_clip_of_one_frame_is_what_kleins_pipeline_makes_of_it() -> None:
    pipeline = tiny_flux2_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    pipeline.image_processor.check_image_input = lambda *_: None
    frame = moving_square(1, height=32, width=32)
    inverted = tokenflow.invert(Video(frame, rate=1), Flux2(pipeline), PROMPT, steps=0, size=32)
    edited = tokenflow.edit(
        inverted, "make the dog a tiger", mode=Instruct(), steps=STEPS, guidance_scale=4.0, seed=3, propagation="none"
    )
    start = inverted.noised(pipeline_level(inverted), "shared", 3)[[0]]
    expected = pipeline(
        image=Image.fromarray(frame[0]),
        prompt="make the dog a tiger",
        num_inference_steps=STEPS,
        guidance_scale=4.0,
        latents=torch.nn.functional.pixel_unshuffle(start, 2),
        height=32,
        width=32,
        max_sequence_length=32,
        text_encoder_out_layers=(1, 2, 3),
        output_type="np",
    ).images
    assert np.abs(edited.decoded / 255 - expected).max() <= 0.5 / 255 + 1e-5


def pipeline_level(source: InvertedClip) -> Any:
    return source.model.schedule.steps(STEPS, 64)[0].at


def test_an_instruction_needs_no_inversion_and_other_modes_do() -> None:
    events: list[Event] = []
    inverted = tokenflow.invert(CLIP, tiny_flux2(), PROMPT, steps=0, size=32, on_event=events.append)
    stages = {event.stage for event in events if isinstance(event, Progress)}
    assert (inverted.steps, stages) == (0, {"read", "encode"})
    assert tokenflow.edit(inverted, "make it a tiger", mode=Instruct(), steps=2).frames.shape == CLIP.frames.shape
    with pytest.raises(ConfigError, match=r"edit\.mode pnp needs an inversion, but this clip was inverted in 0 steps"):
        tokenflow.edit(inverted, "a tiger")


def test_models_that_were_not_made_for_instructions_refuse_them() -> None:
    for model in (tiny_flux(), tiny_model()):
        inverted = tokenflow.invert(CLIP, model, PROMPT, steps=2, size=32)
        with pytest.raises(ConfigError, match=r"not made to edit images by an instruction; expected FLUX.1 Kontext"):
            tokenflow.edit(inverted, "make it a tiger", mode=Instruct())


@pytest.mark.parametrize("make", [lambda: tiny_flux(schnell=True), lambda: tiny_flux2(distilled=True)])
def test_models_of_four_steps_return_the_source_under_its_own_prompt_without_an_inversion(make: Any) -> None:
    with pytest.warns(tokenflow.TokenflowWarning, match="cannot be inverted"):
        source = tokenflow.invert(CLIP, make(), PROMPT, size=32)
    mode = SDEdit(strength=1.0, noise="shared")
    same, other = (tokenflow.edit(source, text, mode=mode, guidance_scale=1) for text in (PROMPT, "a golden tiger"))
    assert np.abs(same.decoded.astype(int) - reconstructed(source)).max() <= 1
    assert not np.array_equal(other.decoded, same.decoded)


def test_distilled_klein_is_instructed_as_it_was_trained() -> None:
    model = tiny_flux2(distilled=True)
    source = tokenflow.invert(CLIP, model, PROMPT, size=32, steps=0, on_event=lambda _: None)
    calls: list[Any] = []
    predict = model.predict

    def counted(*arguments: Any, **options: Any) -> torch.Tensor:
        calls.append(options["inject"].sources)
        return predict(*arguments, **options)

    model.predict = counted  # type: ignore[method-assign]
    tokenflow.edit(source, "make it a tiger", mode=Instruct(), propagation="none")
    assert len(calls) == 4  # once per step: nothing is subtracted for the source
    assert all(torch.equal(each, source.latents(model.schedule.clean)) for each in calls)


def test_images_from_a_prompt_are_those_of_fluxpipeline_from_the_same_seed() -> None:
    pipeline = tiny_flux_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        ["a dog"] * 2,
        num_inference_steps=3,
        guidance_scale=3.5,
        generator=torch.Generator().manual_seed(5),
        height=32,
        width=64,
        max_sequence_length=32,
        output_type="np",
    ).images
    options = {"guidance_scale": 3.5, "seed": 5, "steps": 3, "size": (64, 32), "count": 2}
    images = tokenflow.generate(Flux(pipeline), "a dog", **options)
    assert np.abs(images / 255 - expected).max() <= 0.5 / 255 + 1e-5


def test_images_from_a_prompt_are_those_of_kleins_pipeline_from_the_same_seed() -> None:
    pipeline = tiny_flux2_pipeline()
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        prompt=["a dog"] * 2,
        num_inference_steps=3,
        guidance_scale=4.0,
        generator=torch.Generator().manual_seed(5),
        height=32,
        width=64,
        max_sequence_length=32,
        text_encoder_out_layers=(1, 2, 3),
        output_type="np",
    ).images
    options = {"guidance_scale": 4.0, "seed": 5, "steps": 3, "size": (64, 32), "count": 2}
    images = tokenflow.generate(Flux2(pipeline), "a dog", **options)
    assert np.abs(images / 255 - expected).max() <= 0.5 / 255 + 1e-5


def test_a_run_of_instructions_stores_clean_latents_only_and_says_what_features_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_features, "MIN_SAID", 0)
    with VideoWriter(tmp_path / "clip.mp4", width=24, height=16, rate=10) as video:
        for image in moving_square(5):
            video.write(image)
    content = {
        "clip": {"path": tmp_path / "clip.mp4", "prompt": PROMPT, "size": 16},
        "model": {"path": "unused", "device": "cpu"},
        "edit": {"prompt": "make the dog a tiger", "mode": "instruct", "steps": 2, "keyframe_interval": 2},
        "output": {"dir": tmp_path / "out"},
        "trajectories": {"dir": tmp_path / "trajectories"},
    }
    events: list[Event] = []
    result = tokenflow.run(Config.model_validate(content), model=tiny_flux2(), on_event=events.append)
    assert result.report["inversion"]["steps"] == 0
    progress = [event for event in events if isinstance(event, Progress)]
    stages = list(dict.fromkeys(event.stage for event in progress))
    assert stages == ["read", "encode", "flow", "edit", "decode"]
    # 3 keyframes, 1 branch, 4 layers of 16 channels, 32 text tokens and 24 of the frame and of its source, 4 bytes
    taken = 3 * 1 * 4 * 16 * (32 + 2 * 24) * 4
    assert {event.label for event in progress if event.stage == "edit"} == {
        f"keyframes' features take {taken / 1000:.3g} kB"
    }
    with pytest.raises(ConfigError, match="not made to edit images by an instruction"):
        tokenflow.run(Config.model_validate(content), model=tiny_flux())
