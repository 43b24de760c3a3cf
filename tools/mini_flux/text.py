"""Sentences to what the networks of FLUX are conditioned on, as diffusers' pipelines do it."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer, Qwen2Tokenizer, Qwen3ForCausalLM, T5EncoderModel, T5Tokenizer

from tools.mini_flux.networks import READ_LAYERS, build_clip, build_qwen, build_t5
from tools.mini_flux.tokenizers import LENGTH


@dataclass
class FluxText:
    """FLUX.1's two encoders with their tokenizers."""

    clip: CLIPTextModel
    clip_tokenizer: CLIPTokenizer
    t5: T5EncoderModel
    t5_tokenizer: T5Tokenizer

    @classmethod
    def build(cls, runs: Path, device: torch.device) -> "FluxText":
        """New encoders, with the tokenizers in a folder of runs."""
        clip_tokenizer = CLIPTokenizer.from_pretrained(runs / "tokenizer")
        t5_tokenizer = T5Tokenizer.from_pretrained(runs / "tokenizers" / "t5")
        clip, t5 = build_clip(clip_tokenizer).to(device), build_t5(t5_tokenizer).to(device)
        return cls(clip, clip_tokenizer, t5, t5_tokenizer)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The encoders by name."""
        return {"clip": self.clip, "t5": self.t5}

    def tokens(self, sentences: list[str]) -> tuple[Tensor, Tensor]:
        """Token indices b LENGTH of T5 and of CLIP."""
        return pad(self.t5_tokenizer, sentences), pad(self.clip_tokenizer, sentences)

    def __call__(self, words: Tensor, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """What `tokens` gave, as b LENGTH d and pooled b d."""
        return self.t5(words)[0], self.clip(pooled).pooler_output


@dataclass
class KleinText:
    """FLUX.2 [klein]'s encoder with its tokenizer."""

    qwen: Qwen3ForCausalLM
    tokenizer: Qwen2Tokenizer

    @classmethod
    def build(cls, runs: Path, device: torch.device) -> "KleinText":
        """A new encoder, with the tokenizer in a folder of runs."""
        tokenizer = Qwen2Tokenizer.from_pretrained(runs / "tokenizers" / "qwen")
        return cls(build_qwen(tokenizer).to(device), tokenizer)

    @property
    def networks(self) -> dict[str, nn.Module]:
        """The encoder by name."""
        return {"qwen": self.qwen}

    def tokens(self, sentences: list[str]) -> tuple[Tensor, Tensor]:
        """Token indices b LENGTH and their mask b LENGTH."""
        chats = [
            self.tokenizer.apply_chat_template(
                [{"role": "user", "content": sentence}],
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=False,
            )
            for sentence in sentences
        ]
        inputs = self.tokenizer(chats, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
        return inputs.input_ids, inputs.attention_mask

    def __call__(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """The states of three layers side by side, b LENGTH 3·d."""
        # The body alone: the head over the vocabulary is not trained.
        states = self.qwen.model(
            input_ids=tokens, attention_mask=mask, output_hidden_states=True, use_cache=False
        ).hidden_states
        return torch.cat([states[layer] for layer in READ_LAYERS], dim=-1)


def pad(tokenizer: CLIPTokenizer | T5Tokenizer, sentences: list[str]) -> Tensor:
    """b LENGTH, token indices."""
    return tokenizer(sentences, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids
