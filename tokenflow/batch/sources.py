"""From sources to configurations: YAML files, patterns, folders of clips, and matrices of clips and edits."""

import glob
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from tokenflow.batch.jobs import refuse
from tokenflow.config import WORDS, Config, read_settings, rename_layer, resolve
from tokenflow.errors import BatchError, ConfigError
from tokenflow.events import notice
from tokenflow.video import clip_files

CLIP_SUFFIXES = frozenset(
    {".mp4", ".mov", ".mkv", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".ogv", ".wmv", ".flv"}
    | {".3gp", ".3g2", ".mxf", ".vob", ".gif", ".webp", ".apng", ".avif"}
)
"""Extensions of the files in a folder that count as clips, in lower case."""


@dataclass(frozen=True)
class _Draft:
    """Settings of a job before validation.

    Attributes:
        name: what errors call it.
        settings: unresolved.
        folder: its subfolder of an `output.dir` shared with other jobs; None if it has one to itself.
    """

    name: str
    settings: DictConfig
    folder: str | None = None


def read_configs(sources: Iterable[str], overrides: Iterable[str] = (), *, edit: Path | None = None) -> list[Config]:
    """One configuration per clip and edit.

    Args:
        sources: YAML files, each with one edit or a matrix of `clips:` and `edits:`; or, with `edit`, clips and
            folders of clips, where a folder of images counts as a clip. Patterns (`*`, `?`, `**`) stand for the files
            they match.
        overrides: `key=value` strings, applied to every configuration. In an `output.dir` shared by several jobs each
            gets a subfolder.
        edit: a YAML file whose edit is applied to every clip.

    Raises:
        BatchError: listing every mistake in every file.

    Warns:
        TokenflowWarning: files in a folder of clips are skipped, or the `output.dir` of `edit` becomes a folder of
            folders.
    """
    if isinstance(sources, str):
        raise BatchError(f"expected a list of files or patterns, got {sources!r}; put it in a list")
    overrides = list(overrides)
    configs: list[Config] = []
    mistakes: dict[str, list[str]] = {}  # message -> the drafts it is about
    for pattern in sources:
        try:
            for draft in (draft for source in _matching(pattern) for draft in _all_drafts(source, edit)):
                try:
                    configs.append(_config(draft, overrides))
                except ConfigError as error:
                    mistakes.setdefault(str(error).removeprefix(draft.name), []).append(draft.name)
        except (ConfigError, BatchError) as error:
            mistakes.setdefault(str(error), [""])
    refuse([_summarise(names) + message for message, names in mistakes.items()])
    if edit is not None and configs and not any(word.startswith("output.dir=") for word in overrides):
        _notice_shared_output(edit, configs[0])
    return configs


def _notice_shared_output(edit: Path, first: Config) -> None:
    """Say that results do not go to the `output.dir` that a file names, but into folders in it."""
    if "dir" in (read_settings(edit).get("output") or {}):
        folder = first.output.dir
        notice(
            f"output.dir of {edit} is shared by its clips: each has a folder in {folder.parent}, such as {folder}; "
            "set output.dir=… on the command line to choose another"
        )


def _summarise(names: list[str]) -> str:
    """The first name, and the number of others."""
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _all_drafts(source: Path, edit: Path | None) -> Iterator[_Draft]:
    return _drafts(source) if edit is None else _drafts_of_clips(source, edit)


def _matching(pattern: str) -> list[Path]:
    """The files that match a pattern, sorted by name; any other text is taken as a path."""
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
    """Every clip with every edit: their sections merged over the file's own, and the `words` of both."""
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
        raise BatchError(f"{path}: expected `{key}:` with a section of settings per name, such as {_EXAMPLES[key]}")
    entries: dict[str, Any] = {str(name): section._get_node(name) for name in section}
    for name, entry in entries.items():
        if not isinstance(entry, DictConfig):
            raise BatchError(
                f"{path}: {key}.{name} is {entry}; expected a section of settings, such as {_EXAMPLES[key]}"
            )
        if not name.isprintable() or "/" in name or name.startswith(".") or not name.strip():
            raise BatchError(
                f"{path}: {key}.{name!r} cannot name a folder of results; expected one line without / or leading dot"
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
    """Each clip with the settings of one edit; results go to a folder named after the clip."""
    settings = read_settings(edit)
    if "clips" in settings or "edits" in settings:
        raise BatchError(f"{edit} is a matrix with clips and edits of its own; expected the configuration of one edit")
    defaults = {"output": {"dir": f"outputs/{edit.stem}"}}
    for clip in _clips_in(source) if source.is_dir() else [source]:
        yield _Draft(str(edit), _merged(defaults, settings, {"clip": {"path": str(clip)}}), clip.stem)


def _clips_in(folder: Path) -> list[Path]:
    """The clips in a folder, including folders of images; or the folder itself, if it is one of images."""
    entries = [path for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    clips = [path for path in entries if (clip_files(path) if path.is_dir() else path.suffix.lower() in CLIP_SUFFIXES)]
    if not clips and clip_files(folder):
        return [folder]
    if not clips:
        raise BatchError(f"found no clips in {folder}; expected files such as {', '.join(sorted(CLIP_SUFFIXES))}")
    if skipped := [path.name for path in entries if path not in clips]:
        notice(f"skipped in {folder}, as their extensions are not those of clips: {', '.join(skipped)}")
    return clips
