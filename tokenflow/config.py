"""What a user may ask for: typed, validated, read from YAML, never changed afterwards. Knows no torch and no model.

Order of precedence, weakest first: the files named by `extends:`, the file itself, the environment
(`TOKENFLOW_EDIT__STEPS=30`), the command line (`edit.steps=30`). Paths are relative to the working directory, those
of `extends:` to the file that names them.
"""

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from yaml import YAMLError

from tokenflow.errors import ConfigError

ENVIRONMENT_PREFIX = "TOKENFLOW_"

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Side = Annotated[int, Field(ge=16)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Clip(_Section):
    """The source: where it is, what it shows, and which part of it to edit."""

    path: Path
    prompt: str = Field(description="What the clip shows, in the words that an edit then changes.")
    start: float = Field(0.0, ge=0, allow_inf_nan=False, description="Seconds into the clip where the part begins.")
    frames: Count | None = Field(None, description="How many frames to take; null for all.")
    every: Count = Field(1, description="Take every n-th frame.")
    size: Side | tuple[Side, Side] | None = Field(
        None,
        description="While editing: pixels of the shorter side, or a box [width, height] to keep within; null for the "
        "size the model was trained at. Brought to what the model takes, and the result back to the clip's size.",
    )
    resize: Literal["fit", "fill", "pad"] = Field(
        "fit", description="Where the aspect is not quite what the model takes: stretch, cut off, or add edges."
    )


class Model(_Section):
    """The diffusion model: a folder, a hub id or a .safetensors file."""

    path: str
    base: str | None = Field(None, description="For a .safetensors file: the model whose configuration it shares.")
    device: str = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"


class Inversion(_Section):
    """Stage 1: DDIM inversion and its reconstruction check."""

    steps: Count = 25
    batch_size: Count = 8
    refinements: int = Field(1, ge=0, le=10, description="Fixed-point iterations a step, a network call each.")
    warn_below_psnr: float = Field(
        22.0,
        ge=0,
        allow_inf_nan=False,
        description="Warn when the reconstruction is poorer than this, in dB.",
    )


class PnP(_Section):
    """Plug-and-Play: how long the source's features and attention are injected, as fractions of the steps."""

    features_until: Fraction = 0.8
    attention_until: Fraction = 0.5


class SDEdit(_Section):
    """SDEdit: how much noise the source is given, and of which kind."""

    strength: float = Field(0.7, gt=0, le=1, allow_inf_nan=False)
    noise: Literal["inversion", "shared"] = "inversion"


class ControlNet(_Section):
    """ControlNet on the source's edges: which one, how strongly, and between which fractions of the steps."""

    path: str = "data/models/mini-controlnet-canny"
    scale: float = Field(1.0, ge=0, allow_inf_nan=False)
    start: Fraction = 0.0
    end: Fraction = 1.0
    noise: Literal["inversion", "shared"] = "inversion"

    @model_validator(mode="after")
    def _start_before_end(self) -> "ControlNet":
        if self.start > self.end:
            raise ValueError(f"start ({self.start}) has to come before end ({self.end})")
        return self


class Edit(_Section):
    """Stage 2: the sentence, and how to get there."""

    prompt: str
    negative_prompt: str = ""
    mode: Literal["pnp", "sdedit", "controlnet"] = "pnp"
    steps: Count = 25
    guidance_scale: float = Field(5.0, ge=1, allow_inf_nan=False)
    guidance: Literal["carried", "per_frame"] = Field(
        "carried",
        description="Guidance carried from the keyframes, or computed for every frame (half as fast).",
    )
    seed: int = Field(0, ge=0)
    batch_size: Count = Field(
        8, description="How many frames go through the network at once; never changes the result."
    )
    propagation: Literal["tokenflow", "none"] = "tokenflow"
    correspondence: Literal["flow", "nearest"] = "flow"
    keyframe_interval: int = Field(8, ge=1)
    keyframe_window: int = Field(8, ge=2, description="How many keyframes attend to each other at most.")
    pnp: PnP = PnP()
    sdedit: SDEdit = SDEdit()
    controlnet: ControlNet = ControlNet()


class Output(_Section):
    """Where the result goes, and in which form."""

    dir: Path
    container: Literal["mp4", "mov", "mkv", "webm"] = "mp4"
    codec: Literal["h264", "hevc", "vp9", "av1", "prores", "ffv1"] = "h264"
    quality: int | None = Field(
        None, ge=0, le=63, description="The codec's constant rate factor, lower is better; null hides nothing."
    )
    pngs: bool = Field(False, description="Also write every edited frame as a PNG, in frames/.")


class Trajectories(_Section):
    """Where inversions are kept, to be shared by all edits of a clip."""

    dir: Path = Path("trajectories")


class Config(_Section):
    """Everything that a clip and its edit are: what `load_config` gives, and both stages read."""

    clip: Clip
    model: Model
    inversion: Inversion = Inversion()
    edit: Edit
    output: Output
    trajectories: Trajectories = Trajectories()

    def to_yaml(self) -> str:
        """The whole resolved configuration as YAML that `load_config` reads back to an equal one."""
        return OmegaConf.to_yaml(OmegaConf.create(self.model_dump(mode="json")))


def load_config(
    path: str | Path, overrides: Iterable[str] = (), environment: Mapping[str, str] | None = None
) -> Config:
    """Read a YAML file into a `Config`.

    Args:
        path: the file.
        overrides: `key=value` strings with dotted keys, such as `edit.steps=30`.
        environment: where `TOKENFLOW_…` variables are looked up; by default the process's own.

    Raises:
        ConfigError: listing every mistake at once, each with its key and what to write instead.
    """
    overrides = list(overrides)
    for override in overrides:
        if "=" not in override or override.startswith("="):
            raise ConfigError(f"the override {override!r} is not of the form key=value, such as edit.steps=30")
    try:
        merged = OmegaConf.merge(
            _read(Path(path), ()),
            OmegaConf.from_dotlist(_from_environment(os.environ if environment is None else environment)),
            OmegaConf.from_dotlist(overrides),
        )
        values = OmegaConf.to_container(merged, resolve=True)
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: {_one_line(error)}") from error
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        mistakes = "; ".join(_explain(each) for each in error.errors())
        raise ConfigError(f"{path}: {mistakes}") from error


def _read(path: Path, seen: tuple[Path, ...]) -> DictConfig:
    """A file merged over those it extends."""
    if path.resolve() in seen:
        chain = " → ".join(str(each) for each in [*seen, path.resolve()])
        raise ConfigError(f"the files extend each other in a circle: {chain}; remove one `extends:`")
    if not path.is_file():
        by = f" (named by `extends:` in {seen[-1]})" if seen else ""
        raise ConfigError(f"there is no configuration file {str(path)!r}{by}; see configs/ for examples")
    try:
        own = OmegaConf.load(path)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as YAML ({_one_line(error)})") from error
    if not isinstance(own, DictConfig):
        raise ConfigError(f"{path} holds {type(own).__name__}; expected YAML with keys such as clip, model and edit")
    bases = own.pop("extends", None)
    names = [bases] if isinstance(bases, str) else list(bases or [])
    parents = [_read(path.parent / name, (*seen, path.resolve())) for name in names]
    merged = OmegaConf.merge(*parents, own)
    if not isinstance(merged, DictConfig):
        raise ConfigError(f"{path}: expected YAML with keys such as clip, model and edit")
    return merged


def _from_environment(environment: Mapping[str, str]) -> list[str]:
    """`TOKENFLOW_EDIT__STEPS=30` as `edit.steps=30`; names whose first part is no section are not ours."""
    dotted = []
    for name, value in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX) and "__" in name:
            key = name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")
            dotted.append(f"{key}={value}")
    return dotted


def _explain(mistake: Any) -> str:
    """One validation error in a line: where, what came, what was expected."""
    location = [str(part) for part in mistake["loc"]]
    key = ".".join(location)
    match mistake["type"]:
        case "extra_forbidden":
            near = difflib.get_close_matches(location[-1], _keys(location[:-1]), n=1)
            parent = ".".join(location[:-1])
            known = (
                f"did you mean {'.'.join([*location[:-1], near[0]])}?"
                if near
                else (f"{parent or 'the top level'} knows {', '.join(_keys(location[:-1]))}")
            )
            return f"{key}: unknown; {known}"
        case "missing":
            return f"{key}: missing; it has no default"
        case _:
            return f"{key}: {_lower_first(mistake['msg'])}, and {mistake['input']!r} came"


def _keys(section: list[str]) -> list[str]:
    model: Any = Config
    for name in section:
        model = model.model_fields[name].annotation
    return list(model.model_fields)


def _lower_first(text: str) -> str:
    text = text.removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
