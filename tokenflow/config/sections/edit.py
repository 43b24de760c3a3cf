"""The second stage."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from tokenflow.config.sections.modes import ControlNet, FlowEdit, Instruct, Keyframes, PnP, SDEdit
from tokenflow.config.sections.references import References
from tokenflow.config.sections.regions import Region, Regions
from tokenflow.config.sections.section import FractionOfSteps, PathOrHubId, PositiveCount, Section


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
        "strongly and flickers more. Few-step models take 1, unless they are told the scale (LCM, SANA-Sprint).",
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
    carry_interval: PositiveCount | None = Field(
        None,
        description="After decoding, carry every n-th edited frame in pixels to the frames between, where the motion "
        "is sure and the edit keeps the source's edges: steadier. null for not at all; 8 is a good value.",
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
