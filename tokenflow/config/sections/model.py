"""The model, and what is added to it."""

from typing import Literal

from pydantic import Field

from tokenflow.config.sections.section import PathOrHubId, Section


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
        (), description="Words that it was trained with. You are told if edit.prompt has none of them."
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
        "them inverts the clip. LCM, Lightning, Hyper-SD and other few-step LoRAs, known by their published "
        "names, set few-step mode.",
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
