"""What all tabs of all browsers share: the space, the queue of jobs, the loaded model and the examples."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import gradio as gr

from tokenflow.apps.web.examples import Example, examples
from tokenflow.apps.web.form import EDITED_FRAMES, REFERENCES, Values, keys, masks, to_config
from tokenflow.apps.web.jobs import Job, Jobs
from tokenflow.apps.web.model_list import ModelEntry, downloaded_models, list_models
from tokenflow.apps.web.region_fields import REGIONS
from tokenflow.apps.web.shelf import Shelf
from tokenflow.apps.web.space import Space
from tokenflow.apps.web.visitors import visitor
from tokenflow.apps.web.work import Editor, OwnEditor
from tokenflow.config import Config, Edit
from tokenflow.config import Model as ModelSettings
from tokenflow.errors import ConfigError


@dataclass(frozen=True)
class Site:
    """The state of the server."""

    space: Space
    jobs: Jobs = field(default_factory=Jobs)
    shelf: Shelf = field(default_factory=Shelf)
    hired: Editor | None = None
    """Who edits in place of this process."""

    @property
    def editor(self) -> Editor:
        """Who edits."""
        return self.hired or OwnEditor(self.shelf)

    def of(self, request: gr.Request) -> "Site":
        """What the user who made a request sees of it: their own results, the same queue and model."""
        if self.space.is_local:
            return self
        return replace(self, space=self.space.of(request.username or visitor(request)))

    @cached_property
    def examples(self) -> list[Example]:
        """Those that are offered."""
        return examples(self.space)

    @cached_property
    def keys(self) -> list[str]:
        """The settings that have a field."""
        return keys(self.space)

    @cached_property
    def models(self) -> list[ModelEntry]:
        """Those that are offered: of the space and, where the page is local, those that were downloaded."""
        return [*list_models(self.space.models), *(downloaded_models() if self.space.is_local else [])]

    def config(self, values: Values, clip: str) -> Config:
        """The configuration of a form, with a result folder of its own.

        Raises:
            ConfigError: with all mistakes.
        """
        config = to_config(values, clip, self.space, self._taken())
        self.check_clip(config.clip.path)
        self.check_model(config.model.path)
        self.check_edit(config.edit)
        return config

    def check_clip(self, clip: Path) -> None:
        """Check that the page may read a clip: an upload or an example, and where it is local any.

        Raises:
            ConfigError: it may not.
        """
        self._check_files("clip.path", [clip], "a clip")

    def check_model(self, model: str) -> None:
        """Check that the page may load a model: one that is listed, and where it is local any.

        Raises:
            ConfigError: it may not.
        """
        if not self.space.is_local and model not in self.space.models:
            raise _mistake("model.path", f"expected one of {', '.join(self.space.models)}, got {model!r}")

    def check_edit(self, edit: Edit) -> None:
        """Check that the page may read what an edit names: uploads or an example's files, and where it is local any.

        Raises:
            ConfigError: it may not.
        """
        self._check_files(EDITED_FRAMES, edit.keyframes.paths, "an edited frame")
        self._check_files(REGIONS, masks(edit), "a mask")
        self._check_files(REFERENCES, [reference.path for reference in edit.references], "a reference")

    def _check_files(self, key: str, paths: Iterable[Path], what: str) -> None:
        offered = {path for example in self.examples for path in example.config.inputs}
        for path in paths:
            if not self.space.may_read(path) and path not in offered:
                raise _mistake(key, f"{path} is not {what} of this page; upload it")

    def newest_unfinished(self) -> Job | None:
        """The job to show where none was asked for."""
        own = self.space.outputs
        jobs = [job for job in self.jobs.unfinished() if job.configs[0].output.dir.parent == own]
        return jobs[0] if jobs else None

    @property
    def is_model_settled(self) -> bool:
        """Whether the status of the shelf will not change until a job asks for a model."""
        return self.shelf.is_settled or not self.space.models or self.hired is not None

    def warm_up(self) -> None:
        """Load the first model in the background."""
        if self.space.models and self.hired is None:
            self.shelf.warm_up(ModelSettings(path=self.space.models[0]))

    def _taken(self) -> set[Path]:
        return {config.output.dir for job in self.jobs.unfinished() for config in job.configs}


def _mistake(key: str, text: str) -> ConfigError:
    return ConfigError(f"{key}: {text}", [f"{key}: {text}"])
