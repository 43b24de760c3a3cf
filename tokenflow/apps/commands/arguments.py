"""Arguments and options that several commands share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

ConfigPath = Annotated[Path, typer.Argument(help="A YAML file; see configs/ for examples.", metavar="CONFIG")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings that override the file's.", metavar="KEY=VALUE")]
SourcePrompt = Annotated[str | None, typer.Option("--from", help="What the clip shows.", metavar="SENTENCE")]
Prompt = Annotated[str | None, typer.Option("--to", help="What the edited clip shows.", metavar="SENTENCE")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Draw no progress bars.")]


class EngineChoice(StrEnum):
    """Where a batch runs."""

    local = "local"
    ray = "ray"
