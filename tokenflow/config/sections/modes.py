"""What each mode of editing is told."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from tokenflow.config.sections.section import FractionOfSteps, LocalPath, PathOrHubId, Section


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


THRESHOLDS = "expected two numbers from 0, the lower first"


class ControlUnit(Section):
    """One ControlNet, union ControlNet or T2I-Adapter, what it is shown of the source, and when it acts."""

    path: PathOrHubId = Field(
        description="A ControlNet, union ControlNet or T2I-Adapter made for the model: a folder, a .safetensors file "
        "(not of a T2I-Adapter), or a Hub id, such as lllyasviel/control_v11p_sd15_canny for Stable Diffusion 1.5.",
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
        if not 0 <= thresholds[0] <= thresholds[1] < math.inf:
            raise ValueError(THRESHOLDS)
        return thresholds

    @field_validator("canny_thresholds", mode="before")
    @classmethod
    def _two(cls, thresholds: Any) -> Any:
        if isinstance(thresholds, list | tuple) and len(thresholds) != 2:
            raise ValueError(THRESHOLDS)
        return thresholds


class ControlNet(ControlUnit):
    """ControlNet (Zhang et al., ICCV 2023) on what a detector sees in the source: it stays, the rest may change.

    Between the fractions `start` and `end` of the steps, the ControlNet's residuals for the source frame's edges, depth
    or pose, times `scale`, are added to the network's own.

        tokenflow.ControlNet(path="lllyasviel/control_v11p_sd15_canny", scale=0.8)
    """

    path: PathOrHubId = Field(
        "data/models/mini-controlnet-canny", description=ControlUnit.model_fields["path"].description
    )
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
