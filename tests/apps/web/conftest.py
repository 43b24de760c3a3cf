"""A space with a tiny model, a clip and an example, and the state of a page on it."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tests.tiny import save_tiny_setup
from tokenflow.apps.web.site import Site
from tokenflow.apps.web.space import Space
from tokenflow.config import Config, load_config
from tokenflow.config.suggestions import all_keys, annotation

FRAMES, STEPS = 6, 2


@pytest.fixture(scope="session")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a clip, a model and an example."""
    folder = tmp_path_factory.mktemp("setup")
    save_tiny_setup(folder, FRAMES, STEPS)
    return folder


@pytest.fixture
def space(setup: Path, tmp_path: Path) -> Space:
    return Space(
        outputs=tmp_path / "outputs",
        trajectories=tmp_path / "trajectories",
        examples=(setup / "config.yaml",),
        models=(str(setup / "model"),),
    )


@pytest.fixture
def site(space: Space) -> Iterator[Site]:
    site = Site(space)
    yield site
    site.jobs.close()


@pytest.fixture
def values(setup: Path, site: Site) -> dict[str, str]:
    """A form for the example."""
    given = load_config(setup / "config.yaml", environment={})
    form = dict.fromkeys(site.keys, "") | {"model.path": given.model.path}
    form |= {"clip.prompt": "a dog", "edit.prompt": "a golden tiger", "clip.size": "16", "edit.keyframe_interval": "2"}
    return form | {"inversion.steps": "2", "edit.steps": "2", "inversion.warn_below_psnr": "0.0"}


@pytest.fixture
def clip(setup: Path) -> str:
    return str(setup / "clip.mp4")


def nested(text: str) -> dict[str, dict[str, object]]:
    """The content of a YAML text."""
    content: dict[str, dict[str, object]] = yaml.safe_load(text)
    return content


def names_and_paths() -> set[str]:
    """The settings that name files, folders and models."""
    found = set()
    for key in all_keys(Config):
        section, _, name = key.rpartition(".")
        field = (annotation(Config, section) if section else Config).model_fields[name]
        if _holds_path(field):
            found.add(key)
    return found


def _holds_path(field: FieldInfo) -> bool:
    """Whether a setting is a path or name, or a list of sections with one among their settings."""
    listed = [kind for each in get_args(field.annotation) for kind in get_args(each) if isinstance(kind, type)]
    sections = [kind for kind in listed if issubclass(kind, BaseModel)]
    within = [each for section in sections for each in section.model_fields.values()]
    return "BeforeValidator" in repr(field) or any(map(_holds_path, within))  # that of paths, which expands ~
