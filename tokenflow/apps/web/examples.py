"""The examples of the page: configurations whose clip and model are on this machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from tokenflow.apps.web.space import Space
from tokenflow.config import Config, load_config
from tokenflow.config.suggestions import annotation
from tokenflow.errors import ConfigError


@dataclass(frozen=True)
class Example:
    """An edit to start from.

    Attributes:
        title: what it is about.
        config: its settings.
    """

    title: str
    config: Config


def examples(space: Space) -> list[Example]:
    """The examples of a space, by mode in the order of the setting, and by file name."""
    modes = get_args(annotation(Config, "edit.mode"))
    return sorted(_examples(space), key=lambda example: modes.index(example.config.edit.mode))


def _examples(space: Space) -> Iterator[Example]:
    for path in space.examples:
        try:
            config = load_config(path, environment={})
        except ConfigError:  # a part of others, which extend it
            continue
        if config.clip.path.is_file() and Path(config.model.path).is_dir():
            yield Example(f"{config.edit.prompt} ({config.edit.mode})", config)
