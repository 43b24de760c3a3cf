"""Sizes read from configuration files, beside those of the loaded model."""

from pathlib import Path

from tests.tiny import save_tiny_model, tiny_model
from tests.tiny_sana import tiny_sana, tiny_sana_pipeline, tiny_sprint_pipeline
from tokenflow.models.model import Model
from tokenflow.models.sizes import Sizes, is_few_step, sizes_of


def sizes(model: Model) -> Sizes:
    return Sizes(model.native_size, model.size_multiple, model.pixels_per_latent, model.latent_channels)


def test_they_are_those_of_the_loaded_model(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "sd")
    tiny_sana_pipeline().save_pretrained(tmp_path / "sana")
    assert sizes_of(str(tmp_path / "sd")) == sizes(tiny_model())
    assert sizes_of(str(tmp_path / "sana")) == sizes(tiny_sana())


def test_of_an_unknown_model_they_are_those_of_stable_diffusion(tmp_path: Path) -> None:
    assert sizes_of(str(tmp_path)) == Sizes(512, 64, 8, 4)


def test_whether_a_model_samples_in_few_steps_is_read_from_its_scheduler(tmp_path: Path) -> None:
    save_tiny_model(tmp_path / "sd")
    tiny_sprint_pipeline().save_pretrained(tmp_path / "sprint")
    for name, expected in (("sd", False), ("sprint", True), ("none", False)):
        assert is_few_step(str(tmp_path / name), None) == expected
    assert is_few_step(str(tmp_path / "sd"), True)
