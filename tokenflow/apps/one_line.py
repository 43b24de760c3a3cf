"""The one-line form of `tokenflow edit`: a clip and two sentences instead of a configuration file."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenflow.apps.words import refuse_stray_words
from tokenflow.errors import ConfigError

if TYPE_CHECKING:
    from tokenflow.config import Config

BUNDLED_MODEL = Path("data/models/mini-sd")
"""The model of the repository, used where the working folder has it and no other is given."""

CONFIGURATIONS = (".yaml", ".yml")

MAX_NAME = 80
"""Characters of a folder's name that come from the prompt."""


def one_line_config(clip: str, source_prompt: str | None, prompt: str | None, overrides: Sequence[str]) -> "Config":
    """The configuration of an edit of a clip.

    Args:
        clip: a video, an image, a folder of images, or a pattern.
        source_prompt: what the clip shows.
        prompt: what the edit shows.
        overrides: `key=value` strings.

    Raises:
        ConfigError: a sentence is missing, `clip` is a configuration, or a setting is wrong.
    """
    from tokenflow.config import resolve

    if Path(clip).suffix.lower() in CONFIGURATIONS:
        raise ConfigError(
            f"{clip} is a configuration, which --from and --to do not go with; write "
            '"clip.prompt=…" and "edit.prompt=…" instead'
        )
    if source_prompt is None or prompt is None:
        raise ConfigError(f"expected both --from and --to; write: {example(clip, source_prompt, prompt)}")
    if overrides and "=" not in overrides[0]:
        raise ConfigError(
            f"expected key=value, got {overrides[0]!r}; quote sentences of several words: "
            f'--from "{source_prompt} …" --to "{prompt} …"'
        )
    refuse_stray_words(overrides)
    return resolve(_settings(clip, source_prompt, prompt), overrides, name=clip)


def refuse_clip(source: str, words: Iterable[str]) -> None:
    """Explain the one-line form where a clip was given in place of a configuration.

    Args:
        source: what was given.
        words: what follows it: the first without `=` is taken for the prompt.

    Raises:
        ConfigError: it is a clip.
    """
    if is_clip(source):
        prompt = " ".join(word for word in words if "=" not in word) or None
        raise ConfigError(f"{source} is a clip, not a configuration; write: {example(source, None, prompt)}")


def is_clip(source: str) -> bool:
    """Whether a name is that of a clip: a video, an image, a folder, or a pattern of images."""
    from tokenflow.batch.sources import CLIP_SUFFIXES
    from tokenflow.video.images.files import IMAGE_SUFFIXES, find_images

    path = Path(source)
    return path.suffix.lower() in CLIP_SUFFIXES | IMAGE_SUFFIXES or bool(path.is_dir() and find_images(path))


def example(clip: str, source_prompt: str | None, prompt: str | None) -> str:
    """A command that edits a clip, with what the user has said so far."""
    return f'tokenflow edit {clip} --from "{source_prompt or "what it shows"}" --to "{prompt or "a tiger on grass"}"'


def output_folder(clip: str, prompt: str) -> str:
    """Where an edit goes by default: a folder in outputs/ named after the clip and the prompt."""
    name = f"{_slug(Path(clip).stem)}-{_slug(prompt)[:MAX_NAME].strip('-')}".strip("-")
    return f"outputs/{name or 'edit'}"


def _slug(text: str) -> str:
    """A text as part of a file name."""
    return re.sub(r"[^\w.]+", "-", text.lower()).strip("-.")


def _settings(clip: str, source_prompt: str, prompt: str) -> Any:
    from omegaconf import OmegaConf

    from tokenflow.config.interpolation import escape_references

    settings: dict[str, Any] = {
        "clip": {"path": clip, "prompt": source_prompt},
        "edit": {"prompt": prompt},
        "output": {"dir": output_folder(clip, prompt)},
    }
    if BUNDLED_MODEL.is_dir():
        settings["model"] = {"path": BUNDLED_MODEL.as_posix()}
    return OmegaConf.create(escape_references(settings))
