"""The settings of `tokenflow train-lora`."""

from typing import Literal

from pydantic import Field

from tokenflow.config.sections.model import Model
from tokenflow.config.sections.section import LocalPath, PositiveCount, Section


class LoRATraining(Section):
    """How a LoRA of one's own is trained, and on what."""

    model: Model
    images: LocalPath = Field(
        description="A folder of images of the subject or style. A text file of the same name beside an image has its "
        "caption."
    )
    caption: str = Field(
        min_length=1,
        description="What the images without a caption of their own show, with a word for what is new, such as 'a "
        "<name> on grass'.",
    )
    output: LocalPath = Field(description="Folder for the LoRA, its model card, samples, and the state to resume from.")
    steps: PositiveCount = Field(500, description="Training steps in all. Raise it to continue an earlier run.")
    learning_rate: float = Field(1e-4, gt=0, le=1, description="Learning rate of AdamW, above 0 and up to 1.")
    batch_size: PositiveCount = Field(1, description="Images per step; as many more of `keep`, if it is set.")
    rank: PositiveCount = Field(16, description="Rank of the LoRA. Higher holds more, and is larger.")
    layers: Literal["attention", "all"] = Field(
        "attention",
        description="Which layers it changes: attention, the projections of attention; or all, every linear layer and "
        "convolution, which learns new shapes better and is larger.",
    )
    size: PositiveCount | None = Field(
        None, description="Side in pixels to which images are cropped and scaled; null for the model's own."
    )
    flip: bool = Field(False, description="Also train on the images mirrored.")
    keep: tuple[str, ...] = Field(
        (),
        description="Prompts whose images should stay as they are, such as ['a dog on grass']. On images that the "
        "model makes of them before training (as in Ruiz et al., CVPR 2023, section 3.2), the LoRA learns to predict "
        "what the model predicts without it (Li & Hoiem, ECCV 2016).",
    )
    keep_images: PositiveCount = Field(4, description="How many images are made of each prompt in `keep`.")
    empty_captions: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Share of the images that are trained with an empty caption, 0 to 1. Above 0 the LoRA also shifts "
        "the unconditional prediction, so guidance weakens it.",
    )
    push: str | None = Field(
        None,
        description="A repository on the Hub, owner/name, that the LoRA, its card and its samples are uploaded to when "
        "training is done. The token is that of `hf auth login` or HF_TOKEN.",
    )
    private: bool = Field(True, description="Whether a repository that `push` creates is private.")
    samples: tuple[str, ...] = Field((), description="Prompts of sample images made on the way.")
    sample_every: PositiveCount = Field(100, description="Steps between samples; the state is kept as often.")
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: less memory, slower."
    )
    seed: int = Field(0, ge=0, le=2**63 - 1, description="Same seed, same LoRA.")
