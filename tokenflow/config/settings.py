"""The settings of a run: types, defaults and bounds. Sections are frozen and may be used as values from Python."""

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from omegaconf import OmegaConf
from PIL import ImageColor
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from tokenflow.config.suggestions import is_section

FractionOfSteps = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""Of the sampling steps, the noisiest first."""

PositiveCount = Annotated[int, Field(ge=1, le=10**9)]
SidePixels = Annotated[int, Field(ge=16, le=16_384)]


def _explain_size_once(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """One error for a size, where pydantic gives one for each of its forms."""
    try:
        return validate(value)
    except ValidationError:
        raise ValueError(
            "expected the shorter side in pixels, or a box [width, height], each from 16 to 16384"
        ) from None


WorkingSize = Annotated[SidePixels | tuple[SidePixels, SidePixels], WrapValidator(_explain_size_once)]
"""The shorter side in pixels, or a box of width and height."""


def _expand_path(value: Any) -> Any:
    """Expand `~`, and refuse an empty path, which would otherwise mean the working directory."""
    if not isinstance(value, str | Path):
        return value
    if not str(value).strip():
        raise ValueError("expected a name; write . for the working directory")
    path = os.path.expanduser(value)
    _refuse_impossible(path)
    return path


def _refuse_impossible(path: str) -> None:
    """Refuse a path that no file can have: too long for the system, or with characters it does not allow."""
    try:
        os.lstat(path)
    except (OSError, ValueError) as error:
        if isinstance(error, ValueError) or error.errno == errno.ENAMETOOLONG:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"invalid path ({reason})") from None


NAMES_A_FILE = BeforeValidator(_expand_path)
"""Marks the settings that name a file, a folder or a model on the Hub; see `files.py`."""

LocalPath = Annotated[Path, NAMES_A_FILE]
PathOrHubId = Annotated[str, NAMES_A_FILE]


AUTO: Literal["auto"] = "auto"


def _explain_cuts_once(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """One error for cuts, where pydantic gives one for each of their forms and reads true as 1."""
    try:
        if not any(isinstance(each, bool) for each in value):
            return validate(value)
    except (ValidationError, TypeError):
        pass
    raise ValueError("expected auto, or the frames at which shots begin, such as [49]")


Cuts = Annotated[tuple[PositiveCount, ...] | Literal["auto"], WrapValidator(_explain_cuts_once)]
"""The frames at which shots begin, but for the first."""


class Section(BaseModel):
    """Settings that belong together: frozen, and without others."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _refuse_stray_booleans(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse a boolean for a setting of another type: pydantic would read it as 1 or 0."""
        wanted = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and bool not in (wanted, *get_args(wanted)) and not is_section(wanted):
            raise ValueError("expected a string or number (quote words such as 'yes')")
        return value


class Clip(Section):
    """The source clip: where it is, what it shows, and which part of it to edit."""

    path: LocalPath = Field(
        description="The clip: a video, an animation such as a GIF, an image, a folder of images, or a pattern such as "
        "shots/%04d.png."
    )
    prompt: str = Field(
        description="What the clip shows. The inversion is conditioned on it; edit.prompt is usually the same sentence "
        "with some words replaced."
    )
    start: float = Field(
        0.0, ge=0, le=10**7, allow_inf_nan=False, description="Where the edited part begins, in seconds."
    )
    frames: PositiveCount | None = Field(None, description="Number of frames to edit; null for all up to the end.")
    every: PositiveCount = Field(1, description="Edit every n-th frame only; the result has fewer frames per second.")
    rate: float | None = Field(
        None,
        ge=0.001,
        le=1000,
        allow_inf_nan=False,
        description="Frames per second: of a sequence of images, null for 25; any other clip is resampled to it, null "
        "for its own times. 23.976 and 29.97 stand for 24000/1001 and 30000/1001.",
    )
    cuts: Cuts = Field(
        AUTO,
        description="The frames at which another shot begins, such as [49], counted from 0 in the edited part; each "
        "shot is edited by itself, and nothing is carried over a cut. auto finds them and says which; [] for one shot.",
    )
    sound: LocalPath | None = Field(
        None,
        description="A file whose sound begins with the first frame of the clip, in place of the clip's own; null for "
        "the clip's own.",
    )
    background: str | None = Field(
        None,
        description="The colour behind transparent pixels, such as white or '#ff8000'; null for black, with a warning. "
        "Results in webp, apng, gif, vp9, prores and ffv1 keep the transparency.",
    )
    size: WorkingSize | None = Field(
        None,
        description="Working size: the shorter side in pixels, or a box [width, height] to fit into; null for as many "
        "pixels as the model was trained at. Rounded to what the model accepts. Larger keeps finer detail and costs "
        "more time and memory. The result is scaled back to the clip's own size.",
    )
    resize: Literal["fit", "fill", "pad"] = Field(
        "fit",
        description="How to reach an aspect ratio that the model accepts: fit stretches slightly, fill crops two sides "
        "(the result stays cropped), pad repeats the edges around the image.",
    )

    @field_validator("background")
    @classmethod
    def _refuse_other_than_colours(cls, value: str | None) -> str | None:
        try:
            ImageColor.getrgb(value or "black")
        except ValueError:
            raise ValueError("expected a colour such as white or '#ff8000'") from None
        return value


class LoRA(Section):
    """A LoRA (Hu et al., ICLR 2022): weights that add a subject, a style or few-step sampling to a model.

    tokenflow.load_model(path, loras=[tokenflow.LoRA(path="tiger.safetensors", scale=0.8)])
    """

    path: PathOrHubId = Field(
        description="A .safetensors file in the format of kohya, diffusers or peft; a folder with one; a Hub id; or a "
        "Hub id and a file in it, such as ByteDance/Hyper-SD/Hyper-SD15-8steps-lora.safetensors."
    )
    scale: float = Field(
        1.0,
        ge=-10,
        le=10,
        allow_inf_nan=False,
        description="Factor on what it adds, -10 to 10. Higher shows its subject or style more strongly; 0 switches it "
        "off. A change of it needs no new inversion.",
    )
    triggers: tuple[str, ...] = Field(
        (), description="Words that it was trained with. A notice tells if edit.prompt has none of them."
    )


class TextualInversion(Section):
    """A textual inversion (Gal et al., ICLR 2023): a word that the text encoder learnt."""

    path: PathOrHubId = Field(
        description="A .safetensors file in the format of A1111 or diffusers, a folder with one, or a Hub id."
    )
    token: str | None = Field(
        None, min_length=1, description="The word in prompts; null for the one in the file, or else the file's name."
    )


QuantizationKind = Literal["int8", "fp8", "int4", "nvfp4"]


class Model(Section):
    """The diffusion model, and how it is loaded."""

    path: PathOrHubId = Field(
        description="A folder in diffusers' layout, a .safetensors or .gguf file, a Hub id, or a short name that "
        "`tokenflow models` lists, such as flux.2-klein-4b."
    )
    revision: str | None = Field(
        None,
        min_length=1,
        description="Branch, tag or commit on the Hub; null for the default branch. A commit pins the weights, so that "
        "a stored inversion stays valid.",
    )
    base: PathOrHubId | None = Field(
        None,
        description="For a model in one file: the folder or Hub id of the model it descends from, whose configuration, "
        "tokenizer and scheduler it uses; null for the original model of its version, from the Hub.",
    )
    variant: str | None = Field(
        None,
        min_length=1,
        description="Variant of the weights, such as fp16 or non_ema, for the parts that have it; null for full "
        "precision where there is a choice, or fp16 in a model that works in float16.",
    )
    vae: PathOrHubId | None = Field(
        None,
        description="An autoencoder in place of the model's own: a folder, a .safetensors file, or a Hub id; null for "
        "the model's own.",
    )
    prediction_type: Literal["epsilon", "v_prediction", "sample"] | None = Field(
        None,
        description="What the network predicts: epsilon, v_prediction or sample; null for what the model's scheduler "
        "or the file itself says. A wrong one gives noise.",
    )
    few_step: bool | None = Field(
        None,
        description="Whether the model was distilled to sample in a few steps, and so cannot be inverted; null to go "
        "by its scheduler. Set it to true for checkpoints with Lightning or Hyper weights.",
    )
    loras: tuple[LoRA, ...] = Field(
        (),
        description="LoRAs, such as [{path: tiger.safetensors, scale: 0.8}]. They act on the edit; the model without "
        "them inverts the clip. LCM, Lightning and Hyper-SD LoRAs, known by their published names, set "
        "few-step mode.",
    )
    textual_inversions: tuple[TextualInversion, ...] = Field(
        (), description="Textual inversions, such as [{path: cat-toy.safetensors, token: <cat-toy>}]."
    )
    device: str = Field(
        "auto",
        description="Where to compute: cpu, cuda, cuda:N or mps; auto takes CUDA, then MPS, then the CPU.",
    )
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        "auto",
        description="Precision of the weights. auto takes float16 on CUDA (bfloat16 for Sana and FLUX), bfloat16 on a "
        "CPU that multiplies in it, else float32. An inversion is only valid for the precision it was made in.",
    )
    quantization: QuantizationKind | None = Field(
        None,
        description="Weights of the UNet's or transformer's linear layers in fewer bits, to fit a smaller GPU: int8 or "
        "fp8 take half of float16, int4 a quarter (GPUs of compute capability 8.0 or higher), nvfp4 a quarter (10.0); "
        "null for model.dtype. Needs the extra `quantization`. An inversion is only valid for the one it was made in.",
    )
    text_encoder_quantization: QuantizationKind | None = Field(
        None, description="The same for the text encoders, which in FLUX and Sana are as large as the transformer."
    )
    offload: bool = Field(
        False,
        description="Keep only the part in use (text encoder, VAE or UNet) on the device: for cards that cannot hold "
        "the whole model. Slower.",
    )
    tiling: bool = Field(
        False,
        description="Encode and decode in overlapping tiles: bounds the VAE's memory for large images. Results "
        "differ slightly at their borders. Frames of more than 1536×1536 pixels are always treated so.",
    )
    compile: bool = Field(
        False,
        description="Compile the blocks of the UNet or transformer (torch.compile), attention aside. The first calls "
        "take minutes, later ones less time; changes the result by rounding only. Needs Triton on a GPU, a C++ "
        "compiler on a CPU.",
    )


class Inversion(Section):
    """DDIM inversion of the clip, and the check of its reconstruction."""

    steps: PositiveCount = Field(
        25,
        description="Inversion steps. More reconstruct the source better, and take time and disk space in proportion.",
    )
    batch_size: PositiveCount = Field(
        8, description="Frames per network call. Sets speed and memory; changes the result by rounding only."
    )
    iterations: int = Field(
        1,
        ge=1,
        le=10,
        description="Fixed-point iterations per step, one network call each, 1 to 10. More bring the inversion "
        "closer to exact.",
    )
    reuse: bool = Field(
        False,
        description="If this inversion is not stored but one that differs only in more steps or iterations is, use the "
        "finest of these instead. The result then depends on what is stored; report.json says which one was used.",
    )
    check: bool = Field(
        True,
        description="Sample the inversion back without an edit, and compare it with the source: one network call per "
        "frame and step. If off, the reconstruction video and its figures in reports are missing.",
    )
    warn_below_psnr: float = Field(
        26.0,
        ge=0,
        allow_inf_nan=False,
        description="Warn if the autoencoder alone stays below this PSNR, in dB: the model cannot represent the clip, "
        "and no edit can be better. A reconstruction below 30 dB is warned of, too, if the inversion is more than 3 dB "
        "below the autoencoder. 0 for no warning.",
    )


class PnP(Section):
    """Plug-and-Play (Tumanyan et al., CVPR 2023): inject the source's features and self-attention.

    For the first `features_until` of the steps (τ_f in section 4 of the paper), the features of decoder layer 4 are
    replaced by the source's at the same noise level. For the first `attention_until` of the steps (τ_A), the queries
    and keys of decoder self-attention are, from that layer on, so that its maps softmax(QKᵀ/√d) are the source's. Both
    keep layout and shapes; lower values leave the edit freer.

        tokenflow.PnP(features_until=0.8, attention_until=0.5)
    """

    features_until: FractionOfSteps = Field(
        1.0,
        description="Fraction of the steps, 0 to 1, in which the source's features are injected. Higher holds the "
        "layout; lower lets shapes change.",
    )
    attention_until: FractionOfSteps = Field(
        0.8,
        description="Fraction of the steps, 0 to 1, in which the source's queries and keys are injected. Higher holds "
        "fine structure; lower lets textures and parts change.",
    )
    features: Literal["block", "residual"] | None = Field(
        None,
        description="What is injected at the residual block: block, its whole output, which holds the layout; or "
        "residual, only what it adds to its shortcut, as in the published code, which is freer. null for block, or "
        "residual with FLUX.",
    )


class SDEdit(Section):
    """SDEdit (Meng et al., ICLR 2022): noise the source part of the way, and denoise it under the new prompt.

    Sampling takes the last `strength` of all steps, starting from x_t = √ᾱ_t·x₀ + √(1−ᾱ_t)·ε. `noise` chooses ε: what
    the inversion found for each frame, or one Gaussian sample shared by all frames.

        tokenflow.SDEdit(strength=0.6, noise="shared")
    """

    strength: float = Field(
        0.76,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Fraction of the steps to sample, above 0 and up to 1. Higher starts from more noise and changes "
        "more, including shapes.",
    )
    noise: Literal["inversion", "shared"] = Field(
        "inversion",
        description="Initial noise: inversion, each frame's own, which keeps more of the source; or shared, one "
        "Gaussian sample for all frames, which is freer.",
    )


class ControlUnit(Section):
    """One ControlNet, union ControlNet or T2I-Adapter, what it is shown of the source, and when it acts."""

    path: PathOrHubId = Field(
        "data/models/mini-controlnet-canny",
        description="A ControlNet, union ControlNet or T2I-Adapter made for the model: a folder, a .safetensors file, "
        "or a Hub id, such as lllyasviel/control_v11p_sd15_canny for Stable Diffusion 1.5.",
    )
    detector: Literal["canny", "softedge", "lineart", "mlsd", "depth", "normal", "openpose", "scribble"] = Field(
        "canny",
        description="What the ControlNet is shown of each frame, which is what it was trained on. All but canny need "
        "weights of lllyasviel/Annotators, which are downloaded from the Hub on first use.",
    )
    canny_thresholds: tuple[float, float] = Field(
        (100.0, 200.0),
        description="Lower and upper hysteresis threshold of canny, on the gradient of 8-bit grey images. Higher finds "
        "fewer edges.",
    )
    scale: float = Field(
        1.0,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="Factor on what it adds, 0 to 100. Higher follows the source's outlines, depth or poses more "
        "strictly; 0 ignores them.",
    )
    start: FractionOfSteps = Field(
        0.0,
        description="Fraction of the steps, 0 to 1, after which the ControlNet begins to act. Higher lets the rough "
        "layout change.",
    )
    end: FractionOfSteps = Field(
        1.0,
        description="Fraction of the steps, 0 to 1, after which it stops acting. Lower lets details depart from the "
        "source.",
    )

    @model_validator(mode="after")
    def _start_before_end(self) -> Self:
        if self.start > self.end:
            raise ValueError(f"expected start ({self.start}) no later than end ({self.end})")
        return self

    @field_validator("canny_thresholds")
    @classmethod
    def _lower_first(cls, thresholds: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= thresholds[0] <= thresholds[1]:
            raise ValueError("expected two numbers from 0, the lower first")
        return thresholds


class ControlNet(ControlUnit):
    """ControlNet (Zhang et al., ICCV 2023) on what a detector sees in the source: it stays, the rest may change.

    Between the fractions `start` and `end` of the steps, the ControlNet's residuals for the source frame's edges, depth
    or pose, times `scale`, are added to the network's own.

        tokenflow.ControlNet(path="lllyasviel/control_v11p_sd15_canny", scale=0.8)
    """

    noise: Literal["inversion", "shared"] = Field(
        "inversion",
        description="Initial noise: inversion, each frame's own, which keeps more of the source; or shared, one "
        "Gaussian sample for all frames, which is freer.",
    )
    also: tuple[ControlUnit, ...] = Field(
        (),
        description="Further ControlNets whose residuals are added, such as [{path: "
        "lllyasviel/control_v11f1p_sd15_depth, detector: depth, scale: 0.5}].",
    )

    @property
    def units(self) -> tuple[ControlUnit, ...]:
        """All ControlNets, this one first."""
        return (self, *self.also)


class FlowEdit(Section):
    """FlowEdit (Kulikov et al., ICCV 2025): no inversion; the source moves by the difference that the prompts make.

    Each of the last `strength` of all steps adds fresh noise, the same for all frames, to source and edit, and moves
    the edit by the difference between the predictions under its own prompt and under the source's.

        tokenflow.FlowEdit(strength=0.6)
    """

    strength: float = Field(
        0.7,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Fraction of the steps to sample, above 0 and up to 1. Higher starts from more noise and changes "
        "more, including shapes.",
    )
    source_guidance_scale: float = Field(
        1.5,
        ge=1,
        le=1000,
        allow_inf_nan=False,
        description="Scale of guidance under the source's prompt, 1 to 1000; that under the edit's is "
        "edit.guidance_scale. Higher pushes the edit further away from the source's prompt.",
    )


class Instruct(Section):
    """Editing by an instruction: the model is shown each source frame, and edit.prompt says what to make of it.

    For models that were made for it: FLUX.1 Kontext and FLUX.2 [klein]. The clip is not inverted, so this is the
    fastest mode.

        tokenflow.edit(source, "make the dog a tiger", mode=tokenflow.Instruct())
    """

    strength: float = Field(
        1.0,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Fraction of the steps to sample, above 0 and up to 1. Lower starts from the source with less "
        "noise, and keeps more of it.",
    )


class Keyframes(Section):
    """Edited keyframes: frames edited anywhere else, carried to all others along the motion of the clip.

    Places that no given frame shows are sampled like SDEdit's, from the last `strength` of the steps.
    """

    frames: dict[Annotated[int, Field(ge=0)], LocalPath] | LocalPath | None = Field(
        None,
        description="The edited frames: image files by frame number, counted from 0, such as {0: a.png, 23: b.png}; or "
        "a folder of images named after them, as `tokenflow keyframes` writes it.",
    )
    strength: float = Field(
        0.6,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Fraction of the steps, above 0 and up to 1, that fill in what no given frame shows. Higher "
        "departs more from what is there in the source.",
    )

    @property
    def paths(self) -> list[Path]:
        """The images, or the folder that holds them."""
        if isinstance(self.frames, dict):
            return list(self.frames.values())
        return [] if self.frames is None else [self.frames]


class Region(Section):
    """A part of the clip that an edit may change. Exactly one of `mask`, `words` and `auto` says where it is."""

    mask: LocalPath | None = Field(
        None,
        description="White inside: an image, which is for all frames unless mask_frame says otherwise; or a clip or "
        "folder with as many frames as the source.",
    )
    mask_frame: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="The frame that the image in `mask` is of, counted from 0; it is carried to all others along the "
        "motion of the clip. Choose a frame that shows the whole of what is masked.",
    )
    words: str | None = Field(
        None,
        min_length=1,
        description="Words of clip.prompt: the region is where the model reads them. Commas between several.",
    )
    auto: bool = Field(False, description="The region is where edit.prompt changes something, as the model sees it.")
    invert: bool = Field(False, description="Take what is outside instead.")
    grow: float = Field(
        0.0,
        ge=-4096,
        le=4096,
        allow_inf_nan=False,
        description="Pixels of the source by which the region reaches further; less far below 0.",
    )
    feather: float = Field(
        2.0,
        ge=0,
        le=4096,
        allow_inf_nan=False,
        description="Pixels of the source over which the edit fades into the source, outside of the region.",
    )
    prompt: str | None = Field(None, description="What the region should show; null for edit.prompt.")

    @field_validator("words")
    @classmethod
    def _any_word(cls, value: str | None) -> str | None:
        if value is not None and not value.replace(",", " ").strip():
            raise ValueError("expected words of clip.prompt")
        return value

    @model_validator(mode="after")
    def _one_kind(self) -> "Region":
        named = [name for name in ("mask", "words", "auto") if getattr(self, name)]
        if len(named) != 1:
            raise ValueError(f"expected one of mask, words and auto; got {' and '.join(named) or 'none of them'}")
        if self.mask_frame is not None and self.mask is None:
            raise ValueError("mask_frame is given without the mask of that frame; set mask")
        return self


class Reference(Section):
    """An image whose look an edit takes."""

    path: LocalPath = Field(description="An image. Its middle is taken where its aspect ratio is another.")
    weight: float = Field(
        1.0,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="How strongly it counts, 0 to 100; 0 for not at all. With an IP-Adapter, that adapter's scale.",
    )
    kind: Literal["identity", "style"] = Field(
        "identity",
        description="Whose look is taken: identity, that of what edit.prompt changes, which the model finds in the "
        "image; or style, that of everything in it, with its overall colours and contrasts. No effect with an "
        "IP-Adapter.",
    )


def _validate_references(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """References, of which any may be a path alone."""
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list of images such as [style.png], or of sections such as [{path: style.png}]")
    return validate([{"path": each} if isinstance(each, str | Path) else each for each in value])


References = Annotated[
    tuple[Reference, ...], WrapValidator(_validate_references, json_schema_input_type=list[Reference | str])
]


def _validate_regions(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    """Errors of the list's items, where pydantic would add those of every other form."""
    if isinstance(value, str):
        if value == AUTO:
            return value
        raise ValueError("expected auto, or a list of regions such as [{words: dog}]")
    if not isinstance(value, list | tuple):
        raise ValueError("expected a list of regions such as [{words: dog}], or auto")
    return _LIST_OF_REGIONS.validate_python(value)


_LIST_OF_REGIONS = TypeAdapter(tuple[Region, ...])

Regions = Annotated[tuple[Region, ...] | Literal["auto"], WrapValidator(_validate_regions)]


class Edit(Section):
    """What the edit shows, and how it is made."""

    prompt: str = Field(description="What the edited clip shows.")
    negative_prompt: str = Field(
        "", description="What to steer away from. Has no effect where edit.guidance_scale is 1."
    )
    mode: Literal["pnp", "sdedit", "controlnet", "flowedit", "keyframes", "instruct"] = Field(
        "pnp",
        description="What the edit keeps of its source: pnp, layout, shapes and poses; sdedit, rough layout and "
        "colours; controlnet, outlines; flowedit, what both prompts say, without an inversion; keyframes, motion: "
        "frames edited elsewhere are carried through the clip; instruct, what the instruction in edit.prompt leaves "
        "(FLUX.1 Kontext and FLUX.2).",
    )
    steps: PositiveCount = Field(
        25, description="Sampling steps; may differ from inversion.steps. More steps give finer detail and take longer."
    )
    guidance_scale: float = Field(
        4.0,
        ge=1,
        le=1000,
        allow_inf_nan=False,
        description="Scale of classifier-free guidance, 1 to 1000; 1 turns it off. Higher follows the prompt more "
        "strongly and flickers more. Models of few steps take 1, unless they are told the scale (LCM, SANA-Sprint).",
    )
    guidance: Literal["propagated", "per_frame"] = Field(
        "propagated",
        description="Where the guidance (conditional minus unconditional prediction) is computed: propagated, on "
        "keyframes, and warped to the other frames; or per_frame, on every frame that goes through the network, which "
        "is a little sharper, flickers more and costs more.",
    )
    propagate_edit_until: FractionOfSteps = Field(
        0.76,
        description="Fraction of the steps, 0 to 1, in which frames between keyframes take the whole edit from the "
        "keyframes, without a network call. Counted over all steps, including those that sdedit skips. Lower is "
        "slower; 1 leaves artefacts at disocclusions.",
    )
    seed: int = Field(
        0,
        ge=0,
        le=2**63 - 1,
        description="Seed of the keyframe draw, of shared noise and of edit.variation: same seed, same result. Where "
        "the noise is the inversion's, as always in pnp, another seed changes little unless edit.variation is above 0.",
    )
    variation: float = Field(
        0.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Share of fresh noise in the initial latents, 0 to 1, drawn from edit.seed and the same in all "
        "frames. Higher makes the results of two seeds differ more, and follows the source less.",
    )
    batch_size: PositiveCount = Field(
        8,
        description="Frames per network call; keyframes go through a window at a time. Sets speed and memory; changes "
        "the result by rounding only.",
    )
    propagation: Literal["tokenflow", "none"] = Field(
        "tokenflow",
        description="tokenflow edits keyframes together and propagates their features to the frames between; none "
        "edits each frame on its own, which flickers.",
    )
    correspondence: Literal["flow", "nearest"] = Field(
        "flow",
        description="How matching places are found between frames: flow, optical flow of the source; or nearest, the "
        "model's most similar features, for clips where optical flow fails.",
    )
    keyframe_interval: PositiveCount | None = Field(
        None,
        description="Frames per keyframe; null for 4, or for the clip's length if that is less. Lower tracks fast "
        "motion better but is slower and flickers more.",
    )
    keyframe_window: int = Field(
        8,
        ge=2,
        description="Maximum number of keyframes, 2 or more, that attend to each other and go through the network in "
        "one call. Larger windows keep distant frames more alike and need more memory, whatever the clip's length. No "
        "effect with Sana, where all attend to all.",
    )
    extended_attention: Literal["coarse", "all"] = Field(
        "coarse",
        description="At which resolutions of the network keyframes attend to each other: coarse, all but the finest; "
        "or all, as in the published code, which is slower.",
    )
    propagated_layers: Literal["all", "half"] = Field(
        "all",
        description="At which attention layers frames between keyframes take the keyframes' features: all; or half, "
        "every second one, which halves the memory they take; at the others every frame attends to itself.",
    )
    kept_features: Literal["auto", "device", "main_memory"] = Field(
        "auto",
        description="Where the keyframes' features rest until they are propagated: on the device, in main memory, "
        "or auto: in main memory if they would take more than half of the device's free memory.",
    )
    regions: Regions = Field(
        (),
        description="The parts of the clip that the edit may change, such as [{words: dog}]; all else stays as it is. "
        "auto finds one where edit.prompt changes only a part of the frame, and takes the whole frame otherwise; [] "
        "takes the whole frame.",
    )
    references: References = Field(
        (),
        description="Images whose look the edit takes, such as [tiger.png] or [{path: style.png, kind: style}].",
    )
    ip_adapter: PathOrHubId | None = Field(
        None,
        description="An IP-Adapter for Stable Diffusion or SDXL, through which references are read: a .safetensors "
        "file with a folder image_encoder beside it, or one on the Hub such as "
        "h94/IP-Adapter/models/ip-adapter_sd15.safetensors; null to read them by attention, as every model can.",
    )
    pnp: PnP = PnP()
    sdedit: SDEdit = SDEdit()
    controlnet: ControlNet = ControlNet()
    flowedit: FlowEdit = FlowEdit()
    keyframes: Keyframes = Keyframes()
    instruct: Instruct = Instruct()

    @property
    def needs_inversion(self) -> bool:
        """Whether its mode reads more of the source than its clean latents."""
        return self.mode not in ("flowedit", "instruct")

    @property
    def paths(self) -> list[Path]:
        """The images that are read: edited frames, masks of regions, and references."""
        masks = [region.mask for region in self.regions if isinstance(region, Region)]
        given = [*self.keyframes.paths, *(mask for mask in masks if mask is not None)]
        return [*given, *(reference.path for reference in self.references)]


class Output(Section):
    """The result folder: where it is, what it holds, and how videos are encoded."""

    dir: LocalPath = Field(description="Folder for the results. An earlier result in it is replaced.")
    container: Literal["mp4", "mov", "mkv", "webm", "gif", "webp", "apng"] = Field(
        "mp4",
        description="File format of the videos. With gif, webp and apng the edit plays in a loop without sound, and "
        "the comparison is an mp4.",
    )
    codec: Literal["h264", "hevc", "vp9", "av1", "prores", "ffv1"] | None = Field(
        None,
        description="Codec of the videos; null for h264, or vp9 in webm; gif, webp and apng have one each. ffv1 is "
        "lossless (in mkv); h264 and hevc need even sides, and repeat the last row or column of an odd one.",
    )
    sound: Literal["auto", "copy", "encode", "none"] = Field(
        "auto",
        description="Sound of the edit: auto copies it if most players play it in this container, and encodes it "
        "otherwise; copy copies it if the container holds it at all; encode always encodes it; none leaves it out.",
    )
    quality: int | None = Field(
        None,
        ge=0,
        le=63,
        description="Constant rate factor of the codec, 0 to 63: lower looks better and takes more space. null for the "
        "codec's default here, which is visually lossless; prores and ffv1 have none.",
    )
    pngs: bool = Field(False, description="Also write every edited frame as a PNG, in frames/.")
    comparison: bool = Field(True, description="Write a video of source and edit side by side.")
    contact_sheet: bool = Field(True, description="Write contact_sheet.png: frames of source and edit, in two rows.")
    page: bool = Field(True, description="Write report.html: videos, metrics and settings on one page.")


class Metrics(Section):
    """What is measured on the edit."""

    enabled: bool = Field(
        True,
        description="Measure every edit: warp error, flicker, detail, change, and what clip, classifier and mask add "
        "(docs/metrics.md).",
    )
    clip: PathOrHubId | None = Field(
        None,
        description="CLIP model for the text and consistency scores: a folder or a Hub id, such as "
        "openai/clip-vit-base-patch32; null for neither score.",
    )
    classifier: PathOrHubId | None = Field(
        "auto",
        description="Classifier that tells in which frames the prompt is seen: a folder; auto for one that lies beside "
        "the model's folder and knows all words of its vocabulary.json, as the bundled one does; null for none. "
        "report.json says which was used.",
    )
    mask: LocalPath | None = Field(
        None,
        description="White where the edit is meant to change something: one image for all frames, or a clip with as "
        "many frames as the source. Splits the change into inside and outside; null if unknown.",
    )


class Trajectories(Section):
    """Where inversions are stored, to be shared by all edits of a clip."""

    dir: LocalPath = Field(Path("trajectories"), description="Folder for stored inversions.")


PRESETS: dict[str, dict[str, Any]] = {
    "standard": {"inversion": {"steps": 25}, "edit": {"steps": 25}},
    "fast": {"inversion": {"steps": 8}, "edit": {"steps": 8}},
}
"""Named groups of settings. Settings in the same file or command override those of its preset."""


class Config(Section):
    """All settings of a clip and its edit, validated: what `load_config` returns."""

    preset: Literal["standard", "fast"] = Field(
        "standard",
        description="A group of settings: standard takes 25 steps in both stages, fast takes 8, at little cost in "
        "quality except for sdedit. Overrides files that this one extends; overridden by settings beside it.",
    )
    clip: Clip
    model: Model
    inversion: Inversion = Inversion()
    edit: Edit
    output: Output
    metrics: Metrics = Metrics()
    trajectories: Trajectories = Trajectories()

    @property
    def inputs(self) -> list[Path]:
        """The files and folders that are read: the clip, its sound, masks, edited frames."""
        paths = (self.clip.path, self.clip.sound, self.metrics.mask, *self.edit.paths)
        return [path for path in paths if path is not None]

    def to_yaml(self) -> str:
        """All settings, defaults included, as YAML that `load_config` reads back to an equal `Config`."""
        return OmegaConf.to_yaml(OmegaConf.create(escape_references(self.model_dump(mode="json"))))


def escape_references(value: Any) -> Any:
    """Nested settings in which every `${` is escaped, so that OmegaConf reads it literally."""
    # Backslashes count only before a reference.
    return _with_strings(value, lambda text: re.sub(r"(\\*)\$\{", lambda found: 2 * found[1] + "\\${", text))


def unescape_references(value: Any) -> Any:
    """The settings that `escape_references` made these of."""
    return _with_strings(
        value, lambda text: re.sub(r"(\\+)\$\{", lambda found: found[1][: len(found[1]) // 2] + "${", text)
    )


def _with_strings(value: Any, change: Callable[[str], str]) -> Any:
    """Nested settings with every string in them changed, at any depth."""
    match value:
        case str():
            return change(value)
        case dict():
            return {key: _with_strings(each, change) for key, each in value.items()}
        case list() | tuple():
            return [_with_strings(each, change) for each in value]
    return value
