"""The file that `tokenflow init` writes: the settings a newcomer touches, each under its description."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import Any

from tokenflow.apps.one_line import BUNDLED_MODEL, output_folder
from tokenflow.errors import OutputError

KEYS = (
    "preset",
    "clip.path",
    "clip.prompt",
    "clip.frames",
    "clip.size",
    "model.path",
    "edit.prompt",
    "edit.mode",
    "edit.guidance_scale",
    "edit.seed",
    "output.dir",
)
"""Settings in the file."""

WIDTH = 100
"""Characters per line of its comments."""


def write_configuration(path: Path, clip: str, source_prompt: str | None, prompt: str | None) -> None:
    """Write a commented configuration for a clip. A sentence that is not given is left empty, to be filled in.

    Raises:
        ClipError, ClipNotFoundError: the clip cannot be read.
        OutputError: there is such a file already, or it cannot be written.
    """
    from tokenflow.store.files import output_errors
    from tokenflow.video import probe

    probe(clip)
    values = {
        "clip.path": clip,
        "clip.prompt": source_prompt,
        "model.path": BUNDLED_MODEL.as_posix() if BUNDLED_MODEL.is_dir() else None,
        "edit.prompt": prompt,
        "output.dir": output_folder(clip, prompt or ""),
    }
    text = "\n".join(_lines(path, values)) + "\n"
    try:
        with output_errors(path, "choose another --output"), path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OutputError as error:
        if isinstance(error.__cause__, FileExistsError):
            raise OutputError(f"{path} exists already and stays; choose another --output, or remove it") from None
        raise


def _lines(path: Path, values: Mapping[str, Any]) -> Iterator[str]:
    yield f"# To run this: tokenflow edit {path}"
    yield "# All settings: tokenflow settings, or docs/settings.md."
    for section, keys in groupby(KEYS, lambda key: key.rpartition(".")[0]):
        yield ""
        if section:
            yield f"{section}:"
        for key in keys:
            yield from _setting(key, values)


def _setting(key: str, values: Mapping[str, Any]) -> Iterator[str]:
    """A setting, under its description."""
    from tokenflow.config import Config
    from tokenflow.config.suggestions import default, description

    section, _, name = key.rpartition(".")
    indent = "  " if section else ""
    start = f"{indent}# "
    yield from wrap(
        description(Config, key), WIDTH, initial_indent=start, subsequent_indent=start, break_on_hyphens=False
    )
    if key not in values:
        yield f"{indent}{name}: {_yaml(default(Config, key))}"
    elif values[key] is None:
        yield f"{indent}{name}:"
    else:
        yield f"{indent}{name}: {_yaml(values[key])}"


def _yaml(value: Any) -> str:
    """A value as YAML in one line."""
    import yaml

    from tokenflow.config.interpolation import escape_references

    return yaml.safe_dump(escape_references(value), allow_unicode=True, width=10**6).removesuffix("...\n").strip()
