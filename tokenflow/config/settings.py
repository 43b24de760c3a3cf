"""The settings: types, defaults and bounds. Never changed afterwards. Knows nothing of where they come from."""

import errno
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from omegaconf import OmegaConf
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

from tokenflow.config.suggestions import is_section

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
        8,
        description="How many frames go through the network at once, keyframes aside, of which a whole window does; "
        "never changes the result.",
    )
    propagation: Literal["tokenflow", "none"] = "tokenflow"
    correspondence: Literal["flow", "nearest"] = "flow"
    keyframe_interval: Count | None = Field(
        None, description="Frames to a keyframe; null for 4, or the whole clip where it is shorter."
    )
    keyframe_window: int = Field(
        8, ge=2, description="How many keyframes attend to each other at most, and go through the network at once."
    )
    extended_attention: Literal["coarse", "all"] = Field(
        "coarse",
        description="At which of the network's levels keyframes attend to each other: at all but the finest, or, as in "
        "the published code, at all.",
    )
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
