"""The files of a hosted Space: what the host reads names what is there, and requires what the package does."""

import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from tools.space import ROOT, build


@pytest.fixture
def space(tmp_path: Path) -> Path:
    build(tmp_path / "space")
    return tmp_path / "space"


def test_the_settings_of_the_space_fit_its_files(space: Path) -> None:
    _, front, _ = (space / "README.md").read_text(encoding="utf-8").split("---\n")
    settings = yaml.safe_load(front)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert settings["sdk"] == "gradio"
    assert (space / settings["app_file"]).is_file()
    assert f">={settings['python_version']}" == project["requires-python"]
    (gradio,) = (each for each in map(Requirement, project["optional-dependencies"]["ui"]) if each.name == "gradio")
    assert gradio.specifier.contains(settings["sdk_version"])
    assert len(settings["short_description"]) <= 60  # the most that the host takes


def test_everything_that_the_package_and_the_page_require_is_installed(space: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["ui"]]
    expected = {Requirement(line).name: Requirement(line) for line in lines}
    installed = [Requirement(line) for line in (space / "requirements.txt").read_text(encoding="utf-8").splitlines()]
    assert {each.name for each in installed} == expected.keys() - {"gradio"}
    for each in installed:
        for pin in each.specifier:
            assert pin.operator != "==" or expected[each.name].specifier.contains(pin.version)


def test_the_page_finds_its_models_and_examples(space: Path) -> None:
    for name in ("tokenflow/apps/web/style.css", "configs/dog_to_tiger.yaml", "data/clips/dog_walk.mp4"):
        assert (space / name).read_bytes() == (ROOT / name).read_bytes()
    assert (space / "data/models/mini-sd/model_index.json").is_file()
    assert not list(space.rglob("__pycache__"))
