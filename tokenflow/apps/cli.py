"""The commands of the command line: they read arguments, call the package, and print where results are."""

import re
import sys
from enum import StrEnum
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenflow.apps.exit_status import JOBS_FAILED, exit_status
from tokenflow.apps.image_files import image_files, write_images
from tokenflow.apps.stdio import standard_streams
from tokenflow.apps.terminal import one_line_warnings, print_lines, terminal_listener
from tokenflow.config import Edit, Model

if TYPE_CHECKING:
    from tokenflow.batch import Record

app = typer.Typer(
    help="Edit videos with a text prompt, consistently over time.",
    epilog="With --traceback, any command shows where an error came from.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

OVERRIDE = re.compile(r"[a-z_]+(\.[a-z_]+)*=")
"""How a setting begins. A file of that name counts as a source."""

TAKE_SETTINGS = ("preprocess", "edit", "batch", "config")
"""Commands with settings among their arguments."""

EDIT_DEFAULTS = Edit(prompt="")
MODEL_DEFAULTS = Model(path="unset")

SIZE = re.compile(r"([1-9]\d{0,4})[x×]([1-9]\d{0,4})")

ConfigPath = Annotated[Path, typer.Argument(help="A YAML file; see configs/ for examples.", metavar="CONFIG")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings that override the file's.", metavar="KEY=VALUE")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Draw no progress bars.")]


# The commands import the package themselves: torch and diffusers take seconds, and `--help` should not.


def _print_version(wanted: bool) -> None:
    if wanted:
        import tokenflow

        print_lines(f"tokenflow {tokenflow.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options that come before a command."""


@app.command()
def preprocess(config: ConfigPath, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Stage 1: read the clip, invert it, check the reconstruction."""
    import tokenflow

    settings = tokenflow.load_config(config, overrides or ())
    with terminal_listener(quiet) as on_event:
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
    print_lines(*lines)


@app.command()
def edit(config: ConfigPath, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Both stages: edit the clip; runs stage 1 first if its result is missing."""
    import tokenflow

    settings = tokenflow.load_config(config, overrides or ())
    with terminal_listener(quiet) as on_event:
        result = tokenflow.run(settings, on_event=on_event)
    written = {
        "edited": result.video,
        "comparison": result.comparison,
        "contact sheet": result.contact_sheet,
        "report": result.page,
    }
    print_lines(*(f"{name:<15} {path}" for name, path in written.items() if path is not None))


class EngineChoice(StrEnum):
    """Where a batch runs."""

    local = "local"
    ray = "ray"


@app.command()
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
        bool, typer.Option("--dry-run", help="Print what would be done, and the disk space it takes.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Edit many clips. Run again, it does what is missing or failed."""
    import tokenflow
    from tokenflow.batch.plan import plan, plan_lines
    from tokenflow.batch.run import DEFAULT_RETRIES, open_engine

    overrides = [word for word in sources if OVERRIDE.match(word) and not glob(word)]
    names = [word for word in sources if word not in overrides]
    folder = run_dir or Path("runs") / (Path(names[0]).stem if len(names) == 1 and "*" not in names[0] else "batch")
    configs = tokenflow.read_configs(names, overrides, edit=edit)
    if dry_run:
        open_engine(engine.value, workers, address, gpus, DEFAULT_RETRIES)
        print_lines(*plan_lines(plan(configs, folder)))
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


@app.command()
def generate(
    model: Annotated[
        str, typer.Argument(help="A folder in diffusers' layout, a .safetensors file, or a Hub id.", metavar="MODEL")
    ],
    prompt: Annotated[str, typer.Argument(help="What the image shows.", metavar="PROMPT")],
    output: Annotated[
        Path,
        typer.Option(help="The PNG to write, over an earlier one; several are numbered. Its folder is created."),
    ] = Path("image.png"),
    size: Annotated[
        str | None,
        typer.Option(
            help="In pixels, rounded to what the model accepts; by default the size it was trained at.",
            metavar="WIDTHxHEIGHT",
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Sampling steps.", min=1)] = EDIT_DEFAULTS.steps,
    guidance_scale: Annotated[
        float, typer.Option(help="How strongly to follow the prompt; 1 turns guidance off.", min=1)
    ] = EDIT_DEFAULTS.guidance_scale,
    negative_prompt: Annotated[str, typer.Option(help="What to steer away from.", show_default=False)] = "",
    seed: Annotated[
        int, typer.Option(help="Of the initial noise: same seed, same images.", min=0)
    ] = EDIT_DEFAULTS.seed,
    count: Annotated[int, typer.Option(help="Number of images.", min=1)] = 1,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:N or mps; auto takes CUDA, then MPS, then the CPU.")] = (
        MODEL_DEFAULTS.device
    ),
    dtype: Annotated[
        str,
        typer.Option(help="float32, float16 or bfloat16; auto takes float16 on CUDA, on a CPU whichever is fast."),
    ] = MODEL_DEFAULTS.dtype,
    quiet: Quiet = False,
) -> None:
    """Make images from a prompt, with the sampler that edits use."""
    import tokenflow

    width_and_height = None if size is None else _read_size(size)
    files = image_files(output, count)
    loaded = tokenflow.load_model(model, device=device, dtype=dtype)
    with terminal_listener(quiet) as on_event:
        images = tokenflow.generate(
            loaded,
            prompt,
            negative_prompt=negative_prompt,
            size=width_and_height,
            steps=steps,
            guidance_scale=guidance_scale,
            seed=seed,
            count=count,
            on_event=on_event,
        )
    write_images(files, images)
    print_lines(*map(str, files))


def _read_size(text: str) -> tuple[int, int]:
    match = SIZE.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"expected WIDTHxHEIGHT, such as 512x768, got {text!r}", param_hint="--size")
    return int(match[1]), int(match[2])


@app.command("config")
def show_config(config: ConfigPath, overrides: Overrides = None) -> None:
    """Print the whole resolved configuration."""
    from tokenflow.config import load_config

    print_lines(load_config(config, overrides or ()).to_yaml().rstrip("\n"))


@app.command()
def schema() -> None:
    """Print the JSON Schema of configuration files, for completion in editors."""
    import json

    from tokenflow.config.schema import file_schema

    print_lines(json.dumps(file_schema(), indent=2))


@standard_streams()
def main(arguments: list[str] | None = None) -> None:
    """Run a command line, by default the arguments of the process, and exit with its status (see exit_status.py)."""
    words = sys.argv[1:] if arguments is None else arguments
    with exit_status(with_traceback="--traceback" in words), one_line_warnings():
        try:
            app(args=[word for word in words if word != "--traceback"], prog_name="tokenflow")
        except SystemExit as end:
            if settings := _similar_settings(end.__context__):
                print(f"settings are given without dashes: {settings}", file=sys.stderr)
            raise


def _similar_settings(error: Any) -> str:
    """The settings that were probably meant, if a command that takes settings was given an option it does not have."""
    if type(error).__name__ != "NoSuchOption" or error.ctx.command.name not in TAKE_SETTINGS:
        return ""
    from tokenflow.config import Config
    from tokenflow.config.suggestions import annotation, is_section, suggest_keys

    keys = suggest_keys(Config, error.option_name.lstrip("-"))
    return " or ".join(f"{key}=…" for key in keys if not is_section(annotation(Config, key)))
