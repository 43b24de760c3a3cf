"""Textual inversions (Gal et al., ICLR 2023): words that a text encoder learnt, of one or several tokens."""

from collections.abc import Sequence
from typing import Any

from safetensors.torch import load_file

from tokenflow.config import TextualInversion
from tokenflow.errors import ModelError
from tokenflow.models.adapters.files import find_file
from tokenflow.models.checkpoints.file_kinds import read_header
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


def load_textual_inversions(pipeline: Any, inversions: Sequence[TextualInversion]) -> None:
    """Add the words of textual inversions to the tokenizers and text encoders of a pipeline.

    Raises:
        ModelNotFoundError: a file is missing, or the Hub does not deliver it.
        ModelError: a file is damaged, or was made for another model.
    """
    for inversion in inversions:
        if not hasattr(pipeline, "load_textual_inversion"):
            raise ModelError(f"{type(pipeline).__name__} takes no textual inversions; leave {SETTING} empty")
        file = find_file(inversion.path, SETTING)
        read_header(str(file), SETTING)
        weights = load_file(file)
        token = inversion.token or (file.stem if set(weights) <= {"emb_params", *XL_PARTS} else None)
        try:
            if set(weights) <= set(XL_PARTS):
                for part, names in XL_PARTS.items():
                    encoder, tokenizer = (getattr(pipeline, name) for name in names)
                    pipeline.load_textual_inversion(
                        weights[part], token=token, text_encoder=encoder, tokenizer=tokenizer
                    )
            else:
                pipeline.load_textual_inversion(weights, token=token)
        except UNUSABLE as error:
            raise ModelError(
                f"the textual inversion {inversion.path!r} does not fit the model ({first_line(error)[:200]}); set "
                f"{SETTING} to one that was made for it"
            ) from error
