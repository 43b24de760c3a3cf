"""All settings of a run. They are frozen and may be used as values from Python."""

from pathlib import Path
from typing import Any, Literal

from omegaconf import OmegaConf
from pydantic import Field

from tokenflow.config.interpolation import escape_references
from tokenflow.config.sections.clip import Clip
from tokenflow.config.sections.edit import Edit
from tokenflow.config.sections.inversion import Inversion, Trajectories
from tokenflow.config.sections.model import Model
from tokenflow.config.sections.output import Metrics, Output
from tokenflow.config.sections.section import Section

PRESETS: dict[str, dict[str, Any]] = {
    "standard": {"inversion": {"steps": 25}, "edit": {"steps": 25}},
    "fast": {"inversion": {"steps": 8}, "edit": {"steps": 8}},
}
"""Named groups of settings. Settings in the same file or command override those of its preset."""


class Config(Section):
    """All settings of a clip and its edit, validated: what `load_config` returns."""

    preset: Literal["standard", "fast"] = Field(
        "standard",
        description="A group of settings: standard takes 25 steps in both stages, fast takes 8, at little cost in "
        "quality except for sdedit. Overrides files that this one extends; overridden by settings beside it.",
    )
    clip: Clip
    model: Model
    inversion: Inversion = Inversion()
    edit: Edit
    output: Output
    metrics: Metrics = Metrics()
    trajectories: Trajectories = Trajectories()

    @property
    def inputs(self) -> list[Path]:
        """The files and folders that are read: the clip, its sound, masks, edited frames."""
        paths = (self.clip.path, self.clip.sound, self.metrics.mask, *self.edit.paths)
        return [path for path in paths if path is not None]

    def to_yaml(self) -> str:
        """All settings, defaults included, as YAML that `load_config` reads back to an equal `Config`."""
        return OmegaConf.to_yaml(OmegaConf.create(escape_references(self.model_dump(mode="json"))))
