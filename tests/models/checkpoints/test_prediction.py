"""What a network in one file predicts: the settings, the file and the configuration, in this order."""

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from safetensors.torch import save_file
from torch import Tensor

from tests.models.checkpoints.original import contiguous, open_clip_weights, original_weights, prefixed, save_original
from tests.models.checkpoints.stub_hub import StubHub
from tests.tiny import inpainting, tiny_pipeline
from tokenflow.errors import ModelError, TokenflowWarning
from tokenflow.models.checkpoints.single_file import BASES, NOISE_BASE
from tokenflow.models.loading import load_model

NOTHING = torch.zeros(0)


def load(path: Path, base: Path, **settings: Any) -> Any:
    return load_model(path, base=str(base), device="cpu", dtype="float32", **settings)


def save(saved: Path, folder: Path, **marks: Tensor) -> Path:
    return save_original(folder / "model.safetensors", StableDiffusionPipeline.from_pretrained(saved), **marks)


def save_version_2(folder: Path, change: Any = None, **marks: Tensor) -> Path:
    """A file of SD 2.x: its text encoder is named as OpenCLIP names it."""
    pipeline = change(tiny_pipeline()) if change else tiny_pipeline()
    text = "cond_stage_model."
    weights = {name: weight for name, weight in original_weights(pipeline).items() if not name.startswith(text)}
    weights |= prefixed(f"{text}model.", open_clip_weights(pipeline.text_encoder))
    save_file(contiguous({**weights, **marks}), folder / "v2.safetensors")
    return folder / "v2.safetensors"


def test_the_configuration_decides_where_nothing_else_does(saved: Path, tmp_path: Path) -> None:
    assert load(save(saved, tmp_path), saved).schedule.prediction_type == "epsilon"
    tiny_pipeline(prediction_type="v_prediction").save_pretrained(tmp_path / "base")
    assert load(save(saved, tmp_path), tmp_path / "base").schedule.prediction_type == "v_prediction"


def test_a_file_says_that_it_predicts_velocity(saved: Path, tmp_path: Path) -> None:
    model = load(save(saved, tmp_path, v_pred=NOTHING), saved)
    assert model.schedule.prediction_type == "v_prediction"
    assert model.schedule.steps(5)[0].at.signal > 0


def test_the_original_configuration_beside_a_file_says_that_it_predicts_velocity(saved: Path, tmp_path: Path) -> None:
    file = save(saved, tmp_path)
    for text, kind in (
        ("model: {params: {parameterization: v}}", "v_prediction"),
        ("model: {params: {parameterization: eps}}", "epsilon"),
        ("model: [", "epsilon"),
        ("other", "epsilon"),
    ):
        file.with_suffix(".yaml").write_text(text)
        assert load(file, saved).schedule.prediction_type == kind


def test_training_steps_of_another_shape_say_nothing(saved: Path, tmp_path: Path) -> None:
    with pytest.warns(TokenflowWarning, match="does not say what it predicts"):
        load(save_version_2(tmp_path, global_step=torch.tensor([1, 2])), saved)


def test_a_file_says_that_it_was_trained_up_to_pure_noise(saved: Path, tmp_path: Path) -> None:
    model = load(save(saved, tmp_path, v_pred=NOTHING, ztsnr=NOTHING), saved)
    pipeline = StableDiffusionPipeline.from_pretrained(saved)
    reference = EulerDiscreteScheduler.from_config(
        pipeline.scheduler.config,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )
    reference.set_timesteps(5)
    assert [step.at.time for step in model.schedule.steps(5)] == reference.timesteps.tolist()
    assert model.schedule.steps(5)[0].at.signal == 0


@pytest.mark.parametrize("wanted", ["epsilon", "v_prediction"])
def test_the_settings_decide_over_all(wanted: str, saved: Path, tmp_path: Path) -> None:
    marked = load(save(saved, tmp_path, v_pred=NOTHING), saved, prediction_type=wanted)
    folder = load_model(saved, device="cpu", dtype="float32", prediction_type=wanted)
    for model in (marked, folder):
        assert model.schedule.prediction_type == wanted
    assert folder.fingerprint != load_model(saved, device="cpu", dtype="float32").fingerprint


@pytest.mark.parametrize(
    ("steps", "configured", "refused"),
    [
        (875_000, "epsilon", False),
        (110_000, "v_prediction", False),
        (875_000, "v_prediction", True),
        (110_000, "epsilon", True),
    ],
)
def test_a_file_of_version_2_is_compared_with_its_configuration(
    steps: int, configured: str, refused: bool, tmp_path: Path
) -> None:
    tiny_pipeline(prediction_type=configured).save_pretrained(tmp_path / "base")
    file = save_version_2(tmp_path, global_step=torch.tensor(steps))
    if refused:
        said = rf"seems to be an? .* model, but model\.base predicts {configured}; set model\.prediction_type"
        with pytest.raises(ModelError, match=said):
            load(file, tmp_path / "base")
    assert load(file, tmp_path / "base", prediction_type="epsilon").schedule.prediction_type == "epsilon"


@pytest.mark.parametrize(
    ("steps", "wanted", "base"),
    [
        (None, None, BASES["2.x"]),
        (875_000, None, NOISE_BASE),
        (110_000, None, BASES["2.x"]),
        (None, "epsilon", NOISE_BASE),
    ],
)
def test_a_file_of_version_2_without_a_base_is_read_as_what_it_says(
    steps: int | None, wanted: str | None, base: str, tmp_path: Path, stub_hub: StubHub
) -> None:
    marks = {} if steps is None else {"global_step": torch.tensor(steps)}
    kind = "epsilon" if base == NOISE_BASE else "v_prediction"
    tiny_pipeline(prediction_type=kind).save_pretrained(tmp_path / "base")
    stub_hub.add(base, tmp_path / "base")
    model: Any = load_model(save_version_2(tmp_path, **marks), device="cpu", prediction_type=wanted)
    assert model.schedule.prediction_type == kind


def test_a_file_of_version_2_that_does_not_say_is_assumed_to_be_as_configured_with_a_word(
    saved: Path, tmp_path: Path
) -> None:
    file = save_version_2(tmp_path)
    with pytest.warns(
        TokenflowWarning, match=r"does not say what it predicts; epsilon is assumed.*model\.prediction_type"
    ):
        model = load(file, saved)
    expected = load_model(saved, device="cpu", dtype="float32")
    torch.testing.assert_close(model.condition("a dog").tokens, expected.condition("a dog").tokens, rtol=0, atol=1e-6)


def test_the_inpainting_model_of_version_2_predicts_noise(tmp_path: Path) -> None:
    tiny_pipeline(prediction_type="v_prediction").save_pretrained(tmp_path / "velocity")
    tiny_pipeline().save_pretrained(tmp_path / "noise")
    file = save_version_2(tmp_path, inpainting)
    assert load(file, tmp_path / "noise").schedule.prediction_type == "epsilon"
    with pytest.raises(ModelError, match=r"seems to be an epsilon model, but model\.base predicts v_prediction"):
        load(file, tmp_path / "velocity")
