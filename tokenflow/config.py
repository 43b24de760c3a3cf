"""What a user may ask for: typed, validated, read from YAML, never changed afterwards. Knows no torch and no model.

Order of precedence, weakest first: the files named by `extends:`, the file itself, the environment
(`TOKENFLOW_EDIT__STEPS=30`), the command line (`edit.steps=30`). Paths are relative to the working directory, those
of `extends:` to the file that names them; `~` is the home directory.
"""

import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)
from yaml import YAMLError

from tokenflow.errors import ConfigError
from tokenflow.mistakes import all_keys, annotation, explain, is_section, key_of, one_line, origin

ENVIRONMENT_PREFIX = "TOKENFLOW_"
WORDS = "words"
"""A section of any shape, for `${words.…}` to refer to; not a setting itself."""

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10**9)]
Side = Annotated[int, Field(ge=16, le=16_384)]


def _one_size(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Say once what a size is, where pydantic says for each form of it why it is none."""
    try:
        return validate(value)
    except ValidationError:
        raise ValueError(
            "expected the shorter side in pixels, or a box [width, height], all from 16 to 16384"
        ) from None


Size = Annotated[Side | tuple[Side, Side], WrapValidator(_one_size)]


def _named(value: Any) -> Any:
    """Refuse what names nothing, of which a path would make the working directory; and let ~ be the home directory."""
    if not isinstance(value, str | Path):
        return value
    if not str(value).strip():
        raise ValueError("expected a name; write . for the working directory")
    place = os.path.expanduser(value)
    _can_be_looked_for(place)
    return place


def _can_be_looked_for(place: str) -> None:
    """Refuse a path that is too long for the system, or holds what no path may, whatever may be there."""
    try:
        os.lstat(place)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            why = getattr(error, "strerror", None) or error
            raise ValueError(f"expected a path that can be looked for ({why})") from None


Place = Annotated[Path, BeforeValidator(_named)]
Name = Annotated[str, BeforeValidator(_named)]
"""A folder, a file or a hub id."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse truth values where none is meant: pydantic would take them for 1 and 0."""
        wanted = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and wanted is not bool and not is_section(wanted):
            raise ValueError("expected no truth value (put words such as yes in quotes)")
        return value


class Clip(_Section):
    """The source: where it is, what it shows, and which part of it to edit."""

    path: Place
    prompt: str = Field(description="What the clip shows, in the words that an edit then changes.")
    start: float = Field(
        0.0, ge=0, le=10**7, allow_inf_nan=False, description="Seconds into the clip where the part begins."
    )
    frames: Count | None = Field(None, description="How many frames to take; null for all.")
    every: Count = Field(1, description="Take every n-th frame.")
    size: Size | None = Field(
        None,
        description="While editing: pixels of the shorter side, or a box [width, height] to keep within; null for the "
        "size the model was trained at. Brought to what the model takes, and the result back to the clip's size.",
    )
    resize: Literal["fit", "fill", "pad"] = Field(
        "fit", description="Where the aspect is not quite what the model takes: stretch, cut off, or add edges."
    )


class Model(_Section):
    """The diffusion model: a folder, a hub id or a .safetensors file."""

    path: Name
    base: Name | None = Field(None, description="For a .safetensors file: the model whose configuration it shares.")
    device: str = "auto"
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    offload: bool = Field(
        False, description="Keep on the device only the part at work: for cards that do not hold the whole model."
    )
    tiling: bool = Field(
        False, description="Encode and decode in tiles, for pictures whose autoencoder does not fit in memory."
    )


class Inversion(_Section):
    """Stage 1: DDIM inversion and its reconstruction check."""

    steps: Count = 25
    batch_size: Count = 8
    iterations: int = Field(1, ge=1, le=10, description="Fixed-point iterations a step, a network call each.")
    warn_below_psnr: float = Field(
        22.0,
        ge=0,
        allow_inf_nan=False,
        description="Warn when the reconstruction is poorer than this, in dB.",
    )


class PnP(_Section):
    """Plug-and-Play: which features of the source are injected, and for which share of the steps, as attention is."""

    features_until: Fraction = 1.0
    attention_until: Fraction = 0.8
    features: Literal["block", "residual"] = Field(
        "block",
        description="Of the injected residual block: all that leaves it, which holds the layout; or only what it adds "
        "to its shortcut, as in the published code.",
    )


class SDEdit(_Section):
    """SDEdit: how much noise the source is given, and of which kind."""

    strength: float = Field(0.75, gt=0, le=1, allow_inf_nan=False)
    noise: Literal["inversion", "shared"] = "inversion"


class ControlNet(_Section):
    """ControlNet on the source's edges: which one, how strongly, and between which fractions of the steps."""

    path: Name = "data/models/mini-controlnet-canny"
    scale: float = Field(1.0, ge=0, le=100, allow_inf_nan=False)
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
    guidance_scale: float = Field(4.0, ge=1, le=1000, allow_inf_nan=False)
    guidance: Literal["carried", "per_frame"] = Field(
        "carried",
        description="Guidance carried from the keyframes, or computed for every frame that the network sees.",
    )
    carried_until: Fraction = Field(
        0.75,
        description="Fraction of the steps, the noisiest first, in which frames between keyframes take the whole edit "
        "from these, without a network call.",
    )
    seed: int = Field(0, ge=0, le=2**63 - 1)
    batch_size: Count = Field(
        8, description="How many frames go through the network at once; never changes the result."
    )
    propagation: Literal["tokenflow", "none"] = "tokenflow"
    correspondence: Literal["flow", "nearest"] = "flow"
    keyframe_interval: Count | None = Field(
        None, description="Frames to a keyframe; null for 4, or the whole clip where it is shorter."
    )
    keyframe_window: int = Field(8, ge=2, description="How many keyframes attend to each other at most.")
    pnp: PnP = PnP()
    sdedit: SDEdit = SDEdit()
    controlnet: ControlNet = ControlNet()


class Output(_Section):
    """Where the result goes, and in which form."""

    dir: Place
    container: Literal["mp4", "mov", "mkv", "webm"] = "mp4"
    codec: Literal["h264", "hevc", "vp9", "av1", "prores", "ffv1"] = "h264"
    quality: int | None = Field(
        None, ge=0, le=63, description="The codec's constant rate factor, lower is better; null hides nothing."
    )
    pngs: bool = Field(False, description="Also write every edited frame as a PNG, in frames/.")


class Metrics(_Section):
    """What an edit is measured with beyond what the clip itself gives."""

    clip: Name | None = Field(
        None,
        description="A CLIP model for the scores of prompt and frames: a hub id or a folder; null for no such score.",
    )
    mask: Place | None = Field(
        None,
        description="White where the edit is meant to change something: one picture for all frames, or a clip of as "
        "many frames and of the same times as the source; null where that is not known.",
    )


class Trajectories(_Section):
    """Where inversions are kept, to be shared by all edits of a clip."""

    dir: Place = Path("trajectories")


PRESETS: dict[str, dict[str, Any]] = {
    "standard": {"inversion": {"steps": 25}, "edit": {"steps": 25}},
    "fast": {"inversion": {"steps": 8}, "edit": {"steps": 8}},
}
"""Settings that go together, by name; what the same file or command says beside a preset stands over it."""


class Config(_Section):
    """Everything that a clip and its edit are: what `load_config` gives, and both stages read."""

    preset: Literal["standard", "fast"] = Field(
        "standard",
        description="Settings that go together: fast takes 8 steps in both stages where standard takes 25. It stands "
        "over the files that this one extends, and under all else that is said beside it.",
    )
    clip: Clip
    model: Model
    inversion: Inversion = Inversion()
    edit: Edit
    output: Output
    metrics: Metrics = Metrics()
    trajectories: Trajectories = Trajectories()

    def to_yaml(self) -> str:
        """The whole resolved configuration as YAML that `load_config` reads back to an equal one."""
        return OmegaConf.to_yaml(OmegaConf.create(_escaped(self.model_dump(mode="json"))))


def _escaped(value: Any) -> Any:
    """Values of which OmegaConf makes these again: what looks like a reference is none any more."""
    if isinstance(value, dict):
        return {key: _escaped(each) for key, each in value.items()}
    if isinstance(value, str):  # backslashes count only before a reference
        return re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + "\\${", value)
    return value


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
    return resolve(read_settings(path), overrides, environment, name=str(path))


def read_settings(path: str | Path) -> DictConfig:
    """A YAML file merged over those it extends: settings that `resolve` makes a `Config` of.

    Raises:
        ConfigError: there is no such file, or it cannot be read.
    """
    with _explained(str(path)):
        return _read(Path(path), ())


def resolve(
    settings: DictConfig, overrides: Iterable[str] = (), environment: Mapping[str, str] | None = None, *, name: str
) -> Config:
    """Settings, and what stands over them, as a `Config`; arguments and errors are those of `load_config`.

    Args:
        settings: what `read_settings` gave, or was merged from that.
        name: what to call them in errors.
    """
    given = {key: (value, None) for key, value in map(_split, overrides)}
    environment = os.environ if environment is None else environment
    variables = _from_environment(environment)
    origins = {key: variable for key, (_, variable) in variables.items() if key not in given}
    mistakes: dict[str, str] = {}
    with _explained(name):
        layers = _layers({key: value for key, (value, _) in (variables | given).items()}, origins, mistakes)
        merged = OmegaConf.merge(_defaults(Config), settings, _with_preset(OmegaConf.merge({}, *layers), name))
        values = _resolved(merged, origins, mistakes)
    if isinstance(values, dict):
        values.pop(WORDS, None)
    said = [*_without_effect(environment), *mistakes.values()]
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        said += [explain(each, Config, origins) for each in error.errors() if key_of(each) not in mistakes]
    if said:
        raise ConfigError(f"{name}: {'; '.join(said)}")
    return config


def _layers(texts: Mapping[str, str], origins: Mapping[str, str], mistakes: dict[str, str]) -> list[DictConfig]:
    """Settings by their keys, each as a configuration of its own; what is wrong with the others goes to `mistakes`."""
    layers = []
    for key, text in texts.items():
        try:
            layers.append(_nested(key, text))
        except (OmegaConfBaseException, YAMLError, ValueError) as error:
            said = f"{repr(key)[1:-1]}: {text!r} cannot be read as a value ({one_line(error)})"
            mistakes[key] = said + origin(key, origins)
    return layers


def _resolved(settings: Any, origins: Mapping[str, str], mistakes: dict[str, str]) -> Any:
    """Settings with what they refer to; in the place of a wrong reference, which goes to `mistakes`, stands nothing."""
    while True:
        try:
            return OmegaConf.to_container(settings, resolve=True)
        except OmegaConfBaseException as error:
            key = error.full_key
            if not key or key in mistakes:
                raise
            mistakes[key] = one_line(error) + origin(key, origins)
            OmegaConf.update(settings, key, "")


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """What OmegaConf and YAML raise, as our own errors."""
    try:
        yield
    except ConfigError:
        raise
    except RecursionError as error:
        raise ConfigError(f"{name}: nested too deeply; expected sections such as clip, model and edit") from error
    except TypeError as error:
        raise ConfigError(f"{name}: a list and a section of settings stand for one another; keep one") from error
    except OSError as error:
        raise ConfigError(
            f"{name} cannot be looked for ({error.strerror}); check the path, and who may read it"
        ) from error
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError(f"{name}: {one_line(error)}") from error


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
        raise ConfigError(f"{path} cannot be read as YAML ({one_line(error)})") from error
    if not isinstance(own, DictConfig):
        raise ConfigError(f"{path} holds {type(own).__name__}; expected YAML with keys such as clip, model and edit")
    bases = own.pop("extends", None)
    names = [] if bases is None else list(bases) if isinstance(bases, ListConfig) else [bases]
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: extends is {bases!r}; expected the name of a YAML file, or a list of names")
    parents = [_read(path.parent / os.path.expanduser(name), (*seen, path.resolve())) for name in names]
    merged = OmegaConf.merge(*parents, _with_preset(own, str(path)))
    if not isinstance(merged, DictConfig):
        raise ConfigError(f"{path}: expected YAML with keys such as clip, model and edit")
    return merged


def _with_preset(settings: Any, name: str) -> Any:
    """Settings over those of the preset that they name, if any."""
    if OmegaConf.is_interpolation(settings, "preset"):
        raise ConfigError(f"{name}: preset is a reference; expected one of {', '.join(PRESETS)}, written out")
    preset = settings.get("preset")
    return OmegaConf.merge(PRESETS[preset], settings) if preset in PRESETS else settings


def _defaults(section: type[BaseModel]) -> dict[str, Any]:
    """What holds where nothing is said, so that `${…}` finds it too."""
    defaults: dict[str, Any] = {}
    for name, setting in section.model_fields.items():
        if isinstance(setting.annotation, type) and issubclass(setting.annotation, BaseModel):
            defaults[name] = _defaults(setting.annotation)
        elif not setting.is_required():
            defaults[name] = setting.default
    return defaults


def _split(override: str) -> tuple[str, str]:
    """`key=value` as the two."""
    key, equals, value = override.partition("=")
    if not equals or not all(key.split(".")):
        raise ConfigError(f"the override {override!r} is not of the form key=value, such as edit.steps=30")
    return key, value


def _from_environment(environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """`TOKENFLOW_EDIT__STEPS=30` as key `edit.steps`, value `30` and the variable's name; others are not ours."""
    found = {}
    for name, value in environment.items():
        if re.fullmatch(rf"{ENVIRONMENT_PREFIX}([^_].*__.*[^_]|PRESET)", name):
            found[name.removeprefix(ENVIRONMENT_PREFIX).lower().replace("__", ".")] = value, name
    return found


def _without_effect(environment: Mapping[str, str]) -> list[str]:
    """What is wrong with variables that are almost named as settings are."""
    names = [ENVIRONMENT_PREFIX + key.upper().replace(".", "__") for key in all_keys(Config) if "." in key]
    alike = {name.replace("__", "_"): name for name in names}
    return [f"{name}: sets nothing; write {alike[name]}" for name in environment if name in alike]


def _nested(key: str, text: str) -> DictConfig:
    """One setting as a configuration of its own. Sentences and paths are taken as they stand, all else is YAML."""
    kind = annotation(Config, key)
    value: Any = text if kind in (str, Path) else _parsed(text)
    if isinstance(value, list) and is_section(kind):
        value = text  # which is refused like any other that is no section; a list could not even be merged
    for part in reversed(key.split(".")):
        value = {part: value}
    return OmegaConf.create(value)


def _parsed(text: str) -> Any:
    parsed: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={text}"]))
    return parsed["value"]
