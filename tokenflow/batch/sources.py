"""What a batch is asked for, as configurations: files, patterns, folders of clips, matrices. Starts nothing."""

import glob
import re
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tokenflow.batch.jobs import refuse
from tokenflow.config import WORDS, Config, read_settings, rename_layer, resolve
from tokenflow.errors import BatchError, ConfigError, TokenflowWarning
from tokenflow.video import clip_files

CLIP_SUFFIXES = frozenset(
    {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".ogv", ".wmv", ".flv"}
    | {".3gp", ".3g2", ".mxf", ".vob", ".gif", ".webp", ".apng", ".avif"}
)
"""Endings of the files that are taken for clips in a folder, in small letters."""


@dataclass(frozen=True)
class _Draft:
    """Settings of a job before they are validated.

    Attributes:
        name: what errors call it.
        folder: its own folder in the `output.dir` that it shares with others; None if it does not share one.
    """

    name: str
    settings: DictConfig
    folder: str | None = None


def read_configs(sources: Iterable[str], overrides: Iterable[str] = (), *, edit: Path | None = None) -> list[Config]:
    """One configuration for each clip and edit that is asked for.

    Args:
        sources: YAML files, each of one edit or a matrix with `clips:` and `edits:`; or, with `edit`, clips and
            folders of clips, where a folder of numbered pictures is a clip. Patterns (`*`, `?`, `**`) stand for the
            files they match.
        overrides: `key=value` over every configuration. An `output.dir` shared by several jobs gets a folder for each.
        edit: a YAML file whose edit every clip gets.

    Raises:
        BatchError: naming every mistake in every file.
    """
    if isinstance(sources, str):
        raise BatchError(f"expected a list of files or patterns; got {sources!r} alone, which goes into a list of one")
    overrides = list(overrides)
    configs: list[Config] = []
    mistakes: dict[str, list[str]] = {}  # what is wrong, and with what
    for pattern in sources:
        try:
            for draft in (draft for source in _matching(pattern) for draft in _all_drafts(source, edit)):
                try:
                    configs.append(_config(draft, overrides))
                except ConfigError as error:
                    mistakes.setdefault(str(error).removeprefix(draft.name), []).append(draft.name)
        except (ConfigError, BatchError) as error:
            mistakes.setdefault(str(error), [""])
    refuse([_of_all(names) + said for said, names in mistakes.items()])
    return configs


def _of_all(names: list[str]) -> str:
    """The first name, and how many there are besides."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _all_drafts(source: Path, edit: Path | None) -> Iterator[_Draft]:
    return _drafts(source) if edit is None else _drafts_of_clips(source, edit)


def _matching(pattern: str) -> list[Path]:
    """The files of a pattern in the order of their names; what is no pattern stands for itself."""
    if Path(pattern).exists() or not re.search(r"[*?[]", pattern):
        return [Path(pattern)]
    found = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
    if not found:
        raise BatchError(f"nothing matches {pattern!r}; check the pattern")
    return found


def _config(draft: _Draft, overrides: list[str]) -> Config:
    config = resolve(draft.settings, overrides, name=draft.name)
    if draft.folder is None:
        return config
    output = config.output.model_copy(update={"dir": config.output.dir / draft.folder})
    return config.model_copy(update={"output": output})


def _drafts(path: Path) -> Iterator[_Draft]:
    if path.is_dir():
        raise BatchError(f"{path} is a folder; to edit the clips in it, give --edit with the configuration of the edit")
    if path.suffix.lower() in CLIP_SUFFIXES:
        raise BatchError(f"{path} is a clip; to edit it, give --edit with the configuration of the edit")
    settings = read_settings(path)
    if "clips" in settings or "edits" in settings:
        yield from _drafts_of_matrix(path, settings)
    else:
        yield _Draft(str(path), settings)


def _drafts_of_matrix(path: Path, settings: DictConfig) -> Iterator[_Draft]:
    """Every clip with every edit: their sections merged over the file's own, `words` of both beside them."""
    clips, edits = (_section(path, settings.pop(key, None), key) for key in ("clips", "edits"))
    for clip_name, clip in clips.items():
        for edit_name, edit in edits.items():
            merged = _merged(
                {"output": {"dir": f"outputs/{path.stem}"}},
                settings,
                rename_layer(OmegaConf.create({"clip": _without_words(clip), "edit": _without_words(edit)}), str(path)),
                {WORDS: OmegaConf.merge(clip.get(WORDS, {}), edit.get(WORDS, {}))},
            )
            yield _Draft(f"{path} ({clip_name} × {edit_name})", merged, f"{clip_name}-{edit_name}")


def _section(path: Path, section: Any, key: str) -> dict[str, DictConfig]:
    """The `clips` or the `edits` of a matrix, by name."""
    if not isinstance(section, DictConfig) or not section:
        raise BatchError(f"{path}: expected `{key}:` with names and what belongs to each, such as {_EXAMPLES[key]}")
    entries: dict[str, Any] = {str(name): section._get_node(name) for name in section}
    for name, entry in entries.items():
        if not isinstance(entry, DictConfig):
            raise BatchError(f"{path}: {key}.{name} holds {entry}; expected settings, such as {_EXAMPLES[key]}")
        if not name.isprintable() or "/" in name or name.startswith(".") or not name.strip():
            raise BatchError(
                f"{path}: {key}.{name!r} names a folder of results; expected a name in one line, without / or leading ."
            )
    return entries


_EXAMPLES = {
    "clips": "{dog: {path: dog.mp4, prompt: a dog}}",
    "edits": "{tiger: {prompt: a tiger}}",
}


def _without_words(entry: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(entry, [str(name) for name in entry if name != WORDS])


def _merged(*settings: DictConfig | dict[str, Any]) -> DictConfig:
    merged = OmegaConf.merge(*settings)
    if not isinstance(merged, DictConfig):
        raise TypeError(f"expected settings by name; got {type(merged).__name__}")
    return merged


def _drafts_of_clips(source: Path, edit: Path) -> Iterator[_Draft]:
    """Each clip with the settings of one edit; its results in a folder of the clip's name."""
    settings = read_settings(edit)
    if "clips" in settings or "edits" in settings:
        raise BatchError(f"{edit} is a matrix, with clips and edits of its own; expected the configuration of one edit")
    beneath = {"output": {"dir": f"outputs/{edit.stem}"}}
    for clip in _clips_in(source) if source.is_dir() else [source]:
        yield _Draft(str(edit), _merged(beneath, settings, {"clip": {"path": str(clip)}}), clip.stem)


def _clips_in(folder: Path) -> list[Path]:
    """The clips in a folder, folders of pictures among them; or it alone, if it is such a folder itself."""
    there = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    clips = [path for path in there if (clip_files(path) if path.is_dir() else path.suffix.lower() in CLIP_SUFFIXES)]
    if not clips and clip_files(folder):
        return [folder]
    if not clips:
        raise BatchError(f"there are no clips in {folder}; expected files such as {', '.join(sorted(CLIP_SUFFIXES))}")
    if others := [path.name for path in there if path not in clips]:
        warnings.warn(
            f"left out of {folder}, being no clips by their names: {', '.join(others)}", TokenflowWarning, stacklevel=2
        )
    return clips
