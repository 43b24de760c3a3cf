"""A tiny model, clips for it, and configurations of edits that take a tenth of a second each."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import tokenflow
from tests.tiny import moving_square, save_tiny_model
from tokenflow.config import Config
from tokenflow.video import VideoWriter

Configure = Callable[..., list[Config]]


@pytest.fixture(scope="session")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, five clips and the configuration of an edit of the first."""
    folder = tmp_path_factory.mktemp("material")
    save_tiny_model(folder / "model")
    (folder / "clips").mkdir()
    for index in range(5):
        with VideoWriter(folder / "clips" / f"clip{index}.mp4", width=24, height=16, rate=10, quality=0) as video:
            for image in moving_square(4, step=index + 1):
                video.write(image)
    settings = {
        "clip": {"path": str(folder / "clips" / "clip0.mp4"), "prompt": "a dog", "size": 16},
        "model": {"path": str(folder / "model"), "device": "cpu"},
        "inversion": {"steps": 4, "warn_below_psnr": 0},
        "edit": {"prompt": "a tiger", "steps": 4},
        "output": {"dir": "unset"},
    }
    (folder / "edit.yaml").write_text(yaml.safe_dump(settings))
    return folder


@pytest.fixture
def configure(material: Path, tmp_path: Path) -> Configure:
    """Makes configurations for a number of clips and edits per clip, in a folder that is the test's own by default."""

    def configured(clips: int, edits: int, *overrides: str, folder: Path = tmp_path) -> list[Config]:
        return [
            tokenflow.load_config(
                material / "edit.yaml",
                [
                    f"clip.path={material / 'clips' / f'clip{clip}.mp4'}",
                    f"edit.seed={edit}",
                    f"output.dir={folder / 'out' / f'clip{clip}-{edit}'}",
                    f"trajectories.dir={folder / 'trajectories'}",
                    *overrides,
                ],
                {},
            )
            for clip in range(clips)
            for edit in range(edits)
        ]

    return configured
