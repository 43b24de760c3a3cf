"""The command line: reads arguments, calls the package, prints where results are. Knows nothing of how they are made.

Exit status 0 means done, 1 that some jobs of a batch failed, 2 that the user can mend something (one line says what),
130 that Ctrl-C was pressed.
"""

import atexit
import re
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from glob import glob
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from tokenflow.apps.stdio import standard_streams
from tokenflow.errors import TokenflowError, TokenflowWarning
from tokenflow.events import Listener, TerminalBars

if TYPE_CHECKING:
    from tokenflow.batch import Record

SOME_FAILED = 1
NOT_UNDERSTOOD = 2
INTERRUPTED = 130

app = typer.Typer(
    help="Edit a video by a sentence, consistently over time.",
    epilog="With --traceback, any command shows where an error came from.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

OVERRIDE = re.compile(r"[a-z_]+(\.[a-z_]+)*=")
"""Tells a setting from the name of a file, where there is none of that name."""

ConfigPath = Annotated[Path, typer.Argument(help="A YAML file; see configs/ for examples.", metavar="CONFIG")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings over the file's.", metavar="[KEY=VALUE]...")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Draw no progress bars.")]


# The package is imported inside the commands, since torch and diffusers take seconds and `--help` should not.


@app.command()
def preprocess(config: ConfigPath, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Stage 1: read the clip, invert it, check the reconstruction."""
    import tokenflow

    settings = tokenflow.load_config(config, overrides or ())
    with _listener(quiet) as on_event:
        result = tokenflow.preprocess(settings, on_event=on_event)
    lines = [f"frames          {result.frame_count}"]
    if result.report is None:
        lines.append(f"inversion       {result.folder}")
    else:
        figures = result.report["reconstruction"]
        lines += [
            f"autoencoder     {figures['autoencoder_psnr']:.2f} dB PSNR, {figures['autoencoder_ssim']:.3f} SSIM",
            f"inversion       {figures['inversion_psnr']:.2f} dB PSNR, {figures['inversion_ssim']:.3f} SSIM",
            f"reconstruction  {result.reconstruction}",
        ]
    _say(*lines)


@app.command()
def edit(config: ConfigPath, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Stage 2: edit the clip (runs stage 1 first where it is missing)."""
    import tokenflow

    settings = tokenflow.load_config(config, overrides or ())
    with _listener(quiet) as on_event:
        result = tokenflow.run(settings, on_event=on_event)
    written = {
        "edited": result.video,
        "comparison": result.comparison,
        "contact sheet": result.contact_sheet,
        "report": result.page,
    }
    _say(*(f"{name:<15} {path}" for name, path in written.items() if path is not None))


class EngineName(StrEnum):
    """Where a batch runs."""

    local = "local"
    ray = "ray"


@app.command()
def batch(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Configurations, matrices (a YAML with clips: and edits:) or patterns of their names; with --edit, "
            "clips and folders of clips. And settings over all of them.",
            metavar="SOURCE... [KEY=VALUE]...",
        ),
    ],
    edit: Annotated[Path | None, typer.Option(help="Give every clip the edit of this YAML file.")] = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Where records and index.html go; by default in runs/, named after the source.")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="How many jobs at once.", min=1)] = None,
    engine: Annotated[EngineName, typer.Option(help="This machine, or Ray.")] = EngineName.local,
    address: Annotated[str | None, typer.Option(help="Ray: of a cluster to join; else one is started here.")] = None,
    gpus: Annotated[float | None, typer.Option(help="Ray: GPUs a worker, also a fraction.", min=0)] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, and the disk it takes.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Edit many clips; run again, it does what is missing or failed."""
    import tokenflow
    from tokenflow.batch.plan import plan, plan_lines
    from tokenflow.batch.run import RETRIES, open_engine

    overrides = [word for word in sources if OVERRIDE.match(word) and not glob(word)]
    places = [word for word in sources if word not in overrides]
    folder = run_dir or Path("runs") / (Path(places[0]).stem if len(places) == 1 and "*" not in places[0] else "batch")
    configs = tokenflow.read_configs(places, overrides, edit=edit)
    if dry_run:
        open_engine(engine.value, workers, address, gpus, RETRIES)
        _say(*plan_lines(plan(configs, folder)))
        return
    records = tokenflow.edit_many(
        configs,
        workers=workers,
        engine=engine.value,
        address=address,
        gpus=gpus,
        run_dir=folder,
        progress=not quiet,
    )
    _say(*_table(records), f"overview  {folder / 'index.html'}")
    if any(record.state != "done" for record in records):
        raise typer.Exit(SOME_FAILED)


def _table(records: "list[Record]") -> list[str]:
    """A line a job, and what it warned of below."""
    from tokenflow.batch.index import summary

    width = max(len(record.output) for record in records)
    lines = []
    for record in records:
        seconds = "" if record.seconds is None else f"{record.seconds:.1f} s"
        lines.append(f"{record.state:<7} {seconds:>9}  {record.output:<{width}}  {record.reason or ''}".rstrip())
        lines += [f"{'':<19}warning: {warning}" for warning in record.warnings]
    return [*lines, summary(records)]


@app.command("config")
def show_config(config: ConfigPath, overrides: Overrides = None) -> None:
    """Print the whole resolved configuration."""
    from tokenflow.config import load_config

    _say(load_config(config, overrides or ()).to_yaml().rstrip("\n"))


@app.command()
def schema() -> None:
    """Print the JSON Schema of configuration files, for completion in editors."""
    import json

    from tokenflow.config.schema import file_schema

    _say(json.dumps(file_schema(), indent=2))


@contextmanager
def _listener(quiet: bool) -> Iterator[Listener | None]:
    """Bars and notices on the terminal; with `quiet`, notices alone, as warnings."""
    if quiet:
        yield None
        return
    with TerminalBars() as bars:
        yield bars


def _say(*lines: str) -> None:
    """Print lines, and notice at once where they do not arrive."""
    print("\n".join(lines), flush=True)


@standard_streams()
def main(arguments: list[str] | None = None) -> None:
    """Run the command line, by default on the process's own arguments, and exit with its status."""
    words = sys.argv[1:] if arguments is None else arguments
    with_traceback = "--traceback" in words
    try:
        with warnings.catch_warnings(), _ctrl_c_as_itself():
            warnings.showwarning = _show_warning
            app(args=[word for word in words if word != "--traceback"], prog_name="tokenflow")
    except TokenflowError as error:
        if with_traceback:
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        if with_traceback or not _is_lack_of_memory(error):
            raise
        print(
            "error: memory ran out; set a smaller inversion.batch_size, edit.batch_size, edit.keyframe_window or "
            "clip.size, or take fewer clip.frames",
            file=sys.stderr,
        )
        sys.exit(2)
    except SystemExit as end:
        if end.code == NOT_UNDERSTOOD and (settings := _settings_among_options(words)):
            print(f"settings are given without dashes: {settings}", file=sys.stderr)
        if end.code == INTERRUPTED:
            print("interrupted: what was finished is kept, and the same command goes on from there", file=sys.stderr)
        raise
    finally:
        # Python and torch take a moment to shut down, when there is nothing left to interrupt.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _ctrl_c_as_itself() -> Iterator[None]:
    """Ctrl-C ends in the status of Ctrl-C, though a library made an error of its own of the KeyboardInterrupt."""
    pressed: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        pressed.append(number)
        signal.default_int_handler(number, frame)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # somebody else sees to it
        yield
        return
    signal.signal(signal.SIGINT, note)
    try:
        yield
    except Exception:
        if pressed:
            raise SystemExit(INTERRUPTED) from None
        raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _settings_among_options(words: list[str]) -> str:
    """What was probably meant by options that are none."""
    from tokenflow.config import Config
    from tokenflow.config.suggestions import annotation, is_section, suggest_keys

    names = [word.removeprefix("--").partition("=")[0] for word in words if word.startswith("--")]
    keys = [key for name in names for key in suggest_keys(Config, name) if not is_section(annotation(Config, key))]
    return " or ".join(f"{key}=…" for key in keys)


def _is_lack_of_memory(error: Exception) -> bool:
    """Torch has a class of its own for the GPU's memory, and none for the CPU's."""
    return (
        isinstance(error, MemoryError)
        or type(error).__name__ == "OutOfMemoryError"
        or (isinstance(error, RuntimeError) and "allocate memory" in str(error))
    )


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Our own warnings in one line for the user; those of libraries, meant for developers, not at all."""
    if issubclass(category, TokenflowWarning):
        print(f"warning: {message}", file=sys.stderr)
