"""Textual inversions (Gal et al., ICLR 2023): words that a text encoder learnt, of one or several tokens."""

from collections.abc import Sequence
from typing import Any

from safetensors.torch import load_file

from tokenflow.config import TextualInversion
from tokenflow.errors import ModelError
from tokenflow.models.adapters.files import find_file
from tokenflow.models.checkpoints.file_kinds import LORA, Header, read_header
from tokenflow.models.checkpoints.reasons import UNUSABLE, first_line

SETTING = "model.textual_inversions"

XL_PARTS = {"clip_l": ("text_encoder", "tokenizer"), "clip_g": ("text_encoder_2", "tokenizer_2")}
"""SDXL's text encoders, as files of textual inversions call them."""


def check_textual_inversions(inversions: Sequence[TextualInversion]) -> None:
    """Refuse files that are missing or damaged, before the model is loaded; those on the Hub are downloaded.

    Raises:
        ModelNotFoundError: a file is missing, or the Hub does not deliver it.
        ModelError: a file is damaged.
    """
    for inversion in inversions:
        read_header(str(find_file(inversion.path, SETTING)), SETTING)


def load_textual_inversions(pipeline: Any, inversions: Sequence[TextualInversion]) -> list[str]:
    """Add the words of textual inversions to the tokenizers and text encoders of a pipeline.

    Returns:
        The words, in the order of the textual inversions.

    Raises:
        ModelNotFoundError: a file is missing, or the Hub does not deliver it.
        ModelError: a file is damaged, or was made for another model.
    """
    return [_load(pipeline, inversion) for inversion in inversions]


def _load(pipeline: Any, inversion: TextualInversion) -> str:
    if not hasattr(pipeline, "load_textual_inversion") or not hasattr(pipeline, "unet"):
        raise ModelError(f"{type(pipeline).__name__} takes no textual inversions; leave {SETTING} empty")
    file = find_file(inversion.path, SETTING)
    header = read_header(str(file), SETTING)
    _check(inversion.path, header, is_xl=hasattr(pipeline, "text_encoder_2"))
    weights = load_file(file)
    named = next(iter(set(weights) - {"emb_params", *XL_PARTS}), file.stem)
    token = inversion.token or named
    try:
        for key, weight in weights.items():
            names = XL_PARTS.get(key, XL_PARTS["clip_l"])
            encoder, tokenizer = (getattr(pipeline, name) for name in names)
            pipeline.load_textual_inversion(weight, token=token, text_encoder=encoder, tokenizer=tokenizer)
    except UNUSABLE as error:
        raise ModelError(
            f"the textual inversion {inversion.path!r} does not fit the model ({first_line(error)[:200]}); set "
            f"{SETTING} to one that was made for it"
        ) from error
    return token


def _check(path: str, header: Header, is_xl: bool) -> None:
    """Refuse what does not hold one word for each text encoder.

    Raises:
        ModelError: the file holds something else, or was made for another model.
    """
    if any(LORA.search(key) for key in header):
        raise ModelError(f"{path!r} is a LoRA; set model.loras to it, and remove it from {SETTING}")
    wanted, names = set(XL_PARTS), ", ".join(list(header)[:3])
    if is_xl and set(header) != wanted:
        raise ModelError(
            f"the textual inversion {path!r} has {names}; expected clip_l and clip_g, one for each of SDXL's text "
            f"encoders: set {SETTING} to one that was made for SDXL"
        )
    if not is_xl and set(header) == wanted:
        raise ModelError(f"the textual inversion {path!r} was made for SDXL; set {SETTING} to one for this model")
    if not is_xl and len(header) != 1:
        raise ModelError(f"the textual inversion {path!r} has {names}; expected one word: set {SETTING} to another")
    counts = {key: weight.shape[0] if len(weight.shape) > 1 else 1 for key, weight in header.items()}
    if len(set(counts.values())) > 1:
        raise ModelError(
            f"the textual inversion {path!r} has {counts['clip_l']} vectors for the first text encoder and "
            f"{counts['clip_g']} for the second; expected as many: set {SETTING} to another"
        )
