"""`tokenflow batch`: many clips."""

import re
from contextlib import nullcontext
from glob import glob
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tokenflow.apps.commands.arguments import EngineChoice, Quiet
from tokenflow.apps.examples import examples
from tokenflow.apps.exit_status import JOBS_FAILED
from tokenflow.apps.terminal import no_download_bars, print_lines
from tokenflow.apps.words import refuse_stray_sources

if TYPE_CHECKING:
    from tokenflow.batch import Record

app = typer.Typer()

OVERRIDE = re.compile(r"[a-z_]+(\.[a-z_]+)*=")
"""How a setting begins. A file of that name counts as a source."""


@app.command(
    epilog=examples(
        "tokenflow batch configs/batch/three_clips.yaml --dry-run",
        "tokenflow batch first.yaml second.yaml edit.steps=50 --workers 2",
        "tokenflow batch shots/ --edit tiger.yaml",
    )
)
def batch(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Configurations, matrices (YAML files with clips: and edits:) or patterns of file names; with --edit, "
            "clips and folders of clips. Then settings that override those of all.",
            metavar="SOURCE... [KEY=VALUE]...",
        ),
    ],
    edit: Annotated[Path | None, typer.Option(help="Apply the edit of this YAML file to every clip.")] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="Folder for records and index.html; by default in runs/, named after the source."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Maximum number of jobs at once.", min=1)] = None,
    engine: Annotated[EngineChoice, typer.Option(help="This machine, or Ray.")] = EngineChoice.local,
    address: Annotated[
        str | None, typer.Option(help="Ray: the cluster to join; by default Ray is started on this machine.")
    ] = None,
    gpus: Annotated[float | None, typer.Option(help="Ray: GPUs per worker, may be a fraction.", min=0)] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, and the time, memory and disk space it takes.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Edit many clips. Running it again continues with jobs that are missing or failed."""
    import tokenflow
    from tokenflow.batch.plan import plan, plan_lines
    from tokenflow.batch.run import DEFAULT_RETRIES, open_engine

    is_setting = [bool(OVERRIDE.match(word)) and not glob(word) for word in sources]
    refuse_stray_sources(sources, is_setting)
    overrides = list(compress(sources, is_setting))
    names = [word for word in sources if word not in overrides]
    folder = run_dir or Path("runs") / (Path(names[0]).stem if len(names) == 1 and "*" not in names[0] else "batch")
    configs = tokenflow.read_configs(names, overrides, edit=edit)
    if dry_run:
        open_engine(engine.value, workers, address, gpus, DEFAULT_RETRIES)
        print_lines(*plan_lines(plan(configs, folder, timed=engine is EngineChoice.local)))
        return
    with no_download_bars() if quiet else nullcontext():
        records = tokenflow.edit_many(
            configs,
            workers=workers,
            engine=engine.value,
            address=address,
            gpus=gpus,
            run_dir=folder,
            progress=not quiet,
        )
    print_lines(*_table(records), f"overview  {folder / 'index.html'}")
    if any(record.state != "done" for record in records):
        raise typer.Exit(JOBS_FAILED)


def _table(records: "list[Record]") -> list[str]:
    """A line per job, each followed by its warnings, and a summary."""
    from tokenflow.batch.index import summary

    width = max(len(record.output) for record in records)
    lines = []
    for record in records:
        seconds = "" if record.seconds is None else f"{record.seconds:.1f} s"
        lines.append(f"{record.state:<7} {seconds:>9}  {record.output:<{width}}  {record.reason or ''}".rstrip())
        lines += [f"{'':<19}warning: {warning}" for warning in record.warnings]
    return [*lines, summary(records)]
