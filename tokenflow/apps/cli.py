"""The commands of the command line: they read arguments, call the package, and print where results are."""

import re
import sys
from contextlib import nullcontext
from enum import StrEnum
from glob import glob
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tokenflow.apps import inversions
from tokenflow.apps.examples import examples
from tokenflow.apps.exit_status import JOBS_FAILED, UNSOUND, exit_status
from tokenflow.apps.frame_numbers import frame_numbers
from tokenflow.apps.image_files import image_files, write_images
from tokenflow.apps.init import write_configuration
from tokenflow.apps.one_line import one_line_config, refuse_clip
from tokenflow.apps.result_lines import edit_lines, preprocess_lines
from tokenflow.apps.stdio import standard_streams
from tokenflow.apps.terminal import no_download_bars, one_line_warnings, print_lines, terminal_listener
from tokenflow.apps.words import refuse_stray_sources, refuse_stray_words
from tokenflow.config import Edit, Model

if TYPE_CHECKING:
    from tokenflow.batch import Record
    from tokenflow.config import Config

app = typer.Typer(
    help="Edit videos with a text prompt, consistently over time.",
    epilog=examples(
        'tokenflow edit clip.mp4 --from "a dog on grass" --to "a tiger on grass"',
        "tokenflow init clip.mp4",
        "tokenflow settings seed",
        after="With --traceback, any command shows where an error came from.",
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.add_typer(inversions.app, name="inversions")

OVERRIDE = re.compile(r"[a-z_]+(\.[a-z_]+)*=")
"""How a setting begins. A file of that name counts as a source."""

TAKE_SETTINGS = ("preprocess", "edit", "batch", "config", "train-lora")
"""Commands with settings among their arguments."""

EDIT_DEFAULTS = Edit(prompt="")
MODEL_DEFAULTS = Model(path="unset")

SIZE = re.compile(r"([1-9]\d{0,4})[x×]([1-9]\d{0,4})")

ConfigPath = Annotated[Path, typer.Argument(help="A YAML file; see configs/ for examples.", metavar="CONFIG")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings that override the file's.", metavar="KEY=VALUE")]
SourcePrompt = Annotated[str | None, typer.Option("--from", help="What the clip shows.", metavar="SENTENCE")]
Prompt = Annotated[str | None, typer.Option("--to", help="What the edited clip shows.", metavar="SENTENCE")]
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


@app.command(
    epilog=examples(
        "tokenflow preprocess configs/dog_to_tiger.yaml",
        "tokenflow preprocess configs/dog_to_tiger.yaml inversion.steps=50",
    )
)
def preprocess(config: ConfigPath, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Stage 1: read the clip, invert it, check the reconstruction."""
    import tokenflow

    refuse_stray_words(overrides or [])
    settings = tokenflow.load_config(config, overrides or ())
    with terminal_listener(quiet) as on_event:
        result = tokenflow.preprocess(settings, on_event=on_event)
    print_lines(*preprocess_lines(result))


@app.command(
    epilog=examples(
        "tokenflow edit configs/dog_to_tiger.yaml",
        'tokenflow edit configs/dog_to_tiger.yaml "edit.prompt=a jade dog on grass, 3d style" output.dir=outputs/jade',
        'tokenflow edit clip.mp4 --from "a dog on grass" --to "a tiger on grass" edit.mode=sdedit',
        "tokenflow edit configs/dog_to_tiger.yaml --try 3",
    )
)
def edit(
    source: Annotated[str, typer.Argument(help="A YAML file; or a clip, with --from and --to.", metavar="CONFIG|CLIP")],
    overrides: Overrides = None,
    source_prompt: SourcePrompt = None,
    prompt: Prompt = None,
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Edit from so many seeds, edit.seed and up, and write only an image of all, seeds.png.", min=1
        ),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(
            "--try",
            help="Edit so many frames, spread over the clip, and write only an image of them beside the source, "
            "trial.png.",
            min=1,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done, and the time, memory and disk space it takes.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Both stages: edit the clip; runs stage 1 first if its result is missing."""
    import tokenflow

    settings = _settings(source, source_prompt, prompt, overrides or [])
    if dry_run:
        from tokenflow.apps.dry_run import dry_run_lines

        print_lines(*dry_run_lines(settings, seeds))
        return
    with terminal_listener(quiet) as on_event:
        if seeds is not None:
            print_lines(f"{'seeds':<15} {tokenflow.seed_sheet(settings, seeds, on_event=on_event)}")
            return
        if frames is not None:
            print_lines(f"{'trial':<15} {tokenflow.trial_sheet(settings, frames, on_event=on_event)}")
            return
        result = tokenflow.run(settings, on_event=on_event)
    print_lines(*edit_lines(result))


def _settings(source: str, source_prompt: str | None, prompt: str | None, overrides: list[str]) -> "Config":
    """The configuration of an edit: from a file, or from a clip and two sentences."""
    from tokenflow.config import load_config

    if source_prompt is not None or prompt is not None:
        return one_line_config(source, source_prompt, prompt, overrides)
    refuse_clip(source, overrides)
    refuse_stray_words(overrides)
    return load_config(source, overrides)


@app.command(
    epilog=examples(
        "tokenflow init clip.mp4",
        'tokenflow init clip.mp4 --from "a dog on grass" --to "a tiger on grass" --output tiger.yaml',
    )
)
def init(
    clip: Annotated[str, typer.Argument(help="A video, an image, a folder of images, or a pattern.", metavar="CLIP")],
    source_prompt: SourcePrompt = None,
    prompt: Prompt = None,
    output: Annotated[
        Path | None, typer.Option(help="The YAML file to write; by default named after the clip.", show_default=False)
    ] = None,
) -> None:
    """Write a commented configuration for a clip, to be filled in."""
    path = output or Path(f"{Path(clip).stem}.yaml")
    write_configuration(path, clip, source_prompt, prompt)
    print_lines(str(path))


class EngineChoice(StrEnum):
    """Where a batch runs."""

    local = "local"
    ray = "ray"


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


@app.command(
    epilog=examples(
        'tokenflow generate data/models/mini-sd "a tiger on grass, 3d style"',
        'tokenflow generate data/models/mini-sd "a bus on a road" --count 4 --seed 7 --output buses.png',
    )
)
def generate(
    model: Annotated[
        str,
        typer.Argument(
            help="A folder in diffusers' layout, a .safetensors file, a Hub id, or a short name (see `models`).",
            metavar="MODEL",
        ),
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
    steps: Annotated[
        int | None,
        typer.Option(help="Sampling steps; 25 if not given, or as few as the model was made for.", min=1),
    ] = None,
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
    with terminal_listener(quiet) as on_event:
        loaded = tokenflow.load_model(model, device=device, dtype=dtype, on_event=on_event)
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


@app.command(
    epilog=examples(
        "tokenflow keyframes clip.mp4 --frames 0,12,23",
        "tokenflow keyframes configs/dog_to_tiger.yaml --frames 0 --output tiger",
    )
)
def keyframes(
    source: Annotated[Path, typer.Argument(help="A clip, or a YAML file that names one.", metavar="CLIP|CONFIG")],
    frames: Annotated[str, typer.Option(help="Which frames, counted from 0.", metavar="N[,N…]")],
    output: Annotated[Path, typer.Option(help="Folder for the images; created if missing.")] = Path("keyframes"),
) -> None:
    """Write frames of a clip to edit in any image editor or with any image model, for edit.mode=keyframes."""
    import tokenflow
    from tokenflow.pipeline.clip import open_clip
    from tokenflow.pipeline.keyframes import write_keyframes

    indices = frame_numbers(frames)
    is_config = source.suffix.lower() in (".yaml", ".yml")
    clip = open_clip(tokenflow.load_config(source).clip) if is_config else tokenflow.Video.read(source)
    paths = write_keyframes(clip, indices, output)
    print_lines(*map(str, paths), f"Edit them, then: edit.mode=keyframes edit.keyframes.frames={output}")


@app.command(
    "train-lora",
    epilog=examples(
        'tokenflow train-lora photos/ --caption "a <toy> on a table" --model data/models/mini-sd',
        "tokenflow train-lora training.yaml steps=1000 --push someone/toy-lora",
        after="docs/adapters.md describes the settings. The same command continues a training that was interrupted.",
    ),
)
def train_lora(
    source: Annotated[
        Path, typer.Argument(help="A folder of images, or a YAML file of settings.", metavar="IMAGES|CONFIG")
    ],
    overrides: Overrides = None,
    caption: Annotated[
        str | None, typer.Option(help="What the images show, with a word for what is new.", metavar="SENTENCE")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="A folder in diffusers' layout, a .safetensors file, or a Hub id.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the LoRA; by default the folder of images with -lora added.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps; 500 if not given.", min=1)] = None,
    push: Annotated[
        str | None,
        typer.Option(help="Upload it to this repository on the Hub; a new one is private.", metavar="OWNER/NAME"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Train a LoRA on a few images of a subject or style, for model.loras."""
    from tokenflow.config import load_training, read_settings
    from tokenflow.pipeline.lora_training import train_lora as train

    is_config = source.suffix.lower() in (".yaml", ".yml")
    settings: Any = read_settings(source) if is_config else {"images": str(source), "output": f"{source}-lora"}
    path = None if model is None else {"path": model}
    given = {"caption": caption, "output": output, "steps": steps, "model": path, "push": push}
    chosen = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    settings = {**settings, **{name: value for name, value in chosen.items() if value is not None}}
    with terminal_listener(quiet) as on_event:
        trained = train(load_training(settings, overrides or [], name=str(source)), on_event=on_event)
    pushed = [] if trained.address is None else [trained.address]
    print_lines(str(trained.file), *pushed, f"Use it with: model.loras=[{{path: {trained.file.parent}}}]")


def _read_size(text: str) -> tuple[int, int]:
    match = SIZE.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"expected WIDTHxHEIGHT, such as 512x768, got {text!r}", param_hint="--size")
    return int(match[1]), int(match[2])


@app.command(epilog=examples("tokenflow ui", "tokenflow ui --port 8000"))
def ui(
    port: Annotated[int, typer.Option(help="Of the page.", min=1, max=65535)] = 7860,
    address: Annotated[
        str,
        typer.Option(
            help="Network interface to listen at; any but this machine's own needs a password: that in "
            "TOKENFLOW_UI_PASSWORD, in a file, or typed at a prompt."
        ),
    ] = "127.0.0.1",
    password_file: Annotated[Path | None, typer.Option(help="File whose first line is the password.")] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Get a public link to the page from Gradio's servers; needs a password.")
    ] = False,
) -> None:
    """Serve the web page, on which clips are edited in a browser, until Ctrl-C."""
    from tokenflow.apps.web.access import find_password
    from tokenflow.apps.web.availability import check_installed, check_port

    password = find_password(address, password_file, share=share)
    check_installed()
    check_port(address, port)
    from tokenflow.apps.web.serving import serve

    serve(
        address,
        port,
        password,
        share=share,
        on_start=lambda url: print_lines(f"open {url} in a browser; Ctrl-C ends it"),
    )


Data = Annotated[Path, typer.Option(help="Folder of the service: its database, clips and results.")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        envvar="TOKENFLOW_DATABASE",
        help="URL of a PostgreSQL database, such as postgresql://user@host/name; by default SQLite in --data.",
        show_default=False,
    ),
]


class PartChoice(StrEnum):
    """Which part of the service runs in a process."""

    all = "all"
    server = "server"
    workers = "workers"


@app.command(
    epilog=examples(
        "tokenflow keys create me --credits 1000", "tokenflow serve", "tokenflow serve --config server.yaml --workers 2"
    )
)
def serve(
    config: Annotated[
        Path | None,
        typer.Option(
            help="YAML file with models, prices and limits; by default the bundled model.", show_default=False
        ),
    ] = None,
    data: Data = Path("service"),
    port: Annotated[int, typer.Option(help="Of the service.", min=1, max=65535)] = 8000,
    host: Annotated[
        str, typer.Option(help="Network interface to listen at; any but this machine's own needs a key.")
    ] = "127.0.0.1",
    database: DatabaseUrl = None,
    part: Annotated[
        PartChoice, typer.Option(help="Run all of the service, or only its server or its workers.")
    ] = PartChoice.all,
    workers: Annotated[
        int | None, typer.Option(help="Maximum number of jobs at once; by default one per GPU, or one.", min=1)
    ] = None,
    engine: Annotated[EngineChoice, typer.Option(help="This machine, or Ray.")] = EngineChoice.local,
    address: Annotated[
        str | None, typer.Option(help="Ray: the cluster to join; by default Ray is started on this machine.")
    ] = None,
    gpus: Annotated[float | None, typer.Option(help="Ray: GPUs per worker, may be a fraction.", min=0)] = None,
) -> None:
    """Serve edits over HTTP, until Ctrl-C."""
    from tokenflow.apps.server.availability import check_installed

    check_installed()
    from tokenflow.apps.server.serving import ServeOptions
    from tokenflow.apps.server.serving import serve as serve_all

    options = ServeOptions(config, data, database, host, port, part.value, workers, engine.value, address, gpus)
    serve_all(options, lambda url: print_lines(f"serving at {url}, described at {url}/docs; Ctrl-C ends it"))


keys = typer.Typer(help="Keys of the service's clients.", no_args_is_help=True)
app.add_typer(keys, name="keys")


@keys.command("create", epilog=examples("tokenflow keys create ann --credits 1000 --rate 10/min"))
def create_key(
    name: Annotated[str, typer.Argument(help="Whose key it is.", metavar="NAME")],
    credits: Annotated[int, typer.Option(help="What it may spend.", min=0)] = 0,
    rate: Annotated[
        str | None,
        typer.Option(help="Maximum rate of submissions, such as 10/min; by default none.", show_default=False),
    ] = None,
    data: Data = Path("service"),
    database: DatabaseUrl = None,
) -> None:
    """Make a key, and print it alone on the last line."""
    from tokenflow.apps.server.availability import check_installed

    check_installed()
    from tokenflow.apps.server.commands import create_lines

    print_lines(*create_lines(data, database, name, credits, rate))


@keys.command("list", epilog=examples("tokenflow keys list"))
def list_keys(data: Data = Path("service"), database: DatabaseUrl = None) -> None:
    """List names, credits and rates; the keys themselves are not stored."""
    from tokenflow.apps.server.availability import check_installed

    check_installed()
    from tokenflow.apps.server.commands import list_lines

    print_lines(*list_lines(data, database))


@keys.command("revoke", epilog=examples("tokenflow keys revoke ann"))
def revoke_key(
    name: Annotated[str, typer.Argument(help="Whose key it is.", metavar="NAME")],
    data: Data = Path("service"),
    database: DatabaseUrl = None,
) -> None:
    """Revoke a key."""
    from tokenflow.apps.server.availability import check_installed

    check_installed()
    from tokenflow.apps.server.commands import revoke

    revoke(data, database, name)
    print_lines(f"revoked {name}")


@app.command(
    "config",
    epilog=examples(
        "tokenflow config configs/dog_to_tiger.yaml", "tokenflow config configs/dog_to_tiger.yaml preset=fast"
    ),
)
def show_config(config: ConfigPath, overrides: Overrides = None) -> None:
    """Print the whole resolved configuration."""
    from tokenflow.config import load_config

    refuse_stray_words(overrides or [])
    print_lines(load_config(config, overrides or ()).to_yaml().rstrip("\n"))


@app.command(epilog=examples("tokenflow settings", "tokenflow settings mask", "tokenflow settings edit.pnp"))
def settings(
    word: Annotated[
        str | None, typer.Argument(help="Only settings with this in their name or description.", metavar="WORD")
    ] = None,
) -> None:
    """List all settings: values, default and description of each."""
    from tokenflow.apps.settings_list import settings_lines

    print_lines(*settings_lines(word))


@app.command(epilog=examples("tokenflow models"))
def models() -> None:
    """List published models by short name: steps, guidance, licence, memory, and which fit on this machine."""
    from tokenflow.apps.models_list import device_memory, models_lines

    print_lines(*models_lines(device_memory()))


@app.command(epilog=examples("tokenflow doctor"))
def doctor() -> None:
    """Say what this machine has, which models fit, where files go, and what is missing.

    The exit status is 1 if no edit can be made.
    """
    from tokenflow.apps.doctor import doctor_lines, examine, is_sound

    findings = examine()
    print_lines(*doctor_lines(findings))
    if not is_sound(findings):
        raise typer.Exit(UNSOUND)


@app.command(epilog=examples("tokenflow schema > tokenflow.schema.json"))
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
