"""The examples of the page: configurations whose clip and model are on this machine."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tokenflow.apps.web.space import Space
from tokenflow.config import Config, load_config
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
    """The examples of a space, in the order of their file names."""
    return list(_examples(space))


def _examples(space: Space) -> Iterator[Example]:
    for path in space.examples:
        try:
            config = load_config(path, environment={})
        except ConfigError:  # a part of others, which extend it
            continue
        if config.clip.path.is_file() and Path(config.model.path).is_dir():
            yield Example(f"{config.edit.mode}: {config.edit.prompt}", config)
