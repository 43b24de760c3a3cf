"""Sentences to what Sana's transformer is conditioned on, as diffusers' pipeline does it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import Gemma2Model, GemmaTokenizer

from tools.mini_sana.networks import build_text_encoder
from tools.mini_sana.tokenizer import build_tokenizer


@dataclass
class SanaText:
    """The encoder with its tokenizer."""

    encoder: Gemma2Model
    tokenizer: GemmaTokenizer

    @classmethod
    def build(cls, runs: Path, device: torch.device) -> "SanaText":
        """A new encoder; the tokenizer is written into a folder of runs the first time."""
        folder = runs / "tokenizers" / "gemma"
        if not folder.exists():
            build_tokenizer().save_pretrained(folder)
        tokenizer = GemmaTokenizer.from_pretrained(folder)
        return cls(build_text_encoder(tokenizer).to(device), tokenizer)

    def tokens(self, sentences: list[str]) -> tuple[Tensor, Tensor]:
        """Token indices b n and their mask b n."""
        inputs = self.tokenizer(
            sentences,
            padding="max_length",
            max_length=self.tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        )
        return inputs.input_ids, inputs.attention_mask

    def __call__(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What `tokens` gave, as b n d, and the mask b n."""
        return self.encoder(input_ids=tokens, attention_mask=mask, use_cache=False)[0], mask
