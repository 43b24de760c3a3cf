"""Tokenizers of our own for the text encoders of FLUX: T5's for FLUX.1, Qwen's for FLUX.2 [klein].

Both know every word of the grammar as one token and spell others. They load with nothing of ours installed.
"""

from collections import Counter
from pathlib import Path

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel
from transformers import Qwen2Tokenizer, T5Tokenizer

from tools.mini_flux.instructions import instruction_words, sample_instruction
from tools.mini_sd.captions import all_words, sample_caption
from tools.mini_sd.tokenizer import learn_merges
from tools.mini_sd.words import sample_words

LENGTH = 32  # tokens of a prompt, those around it included
LETTERS = "▁abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,:;!?'\"()-"
SPELT = -20.0  # log probability of a single letter: any word that is known costs less
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


def build_t5_tokenizer() -> T5Tokenizer:
    """A unigram vocabulary: the grammar's words, and letters for all others."""
    words = sorted({word.strip(",") for word in all_words()} - {""})
    pieces = {"<pad>": 0.0, "</s>": 0.0, "<unk>": 0.0}
    pieces |= {f"▁{word}": -1.0 for word in words} | {",": -1.0}
    pieces |= {letter: SPELT for letter in LETTERS if letter not in pieces}
    return T5Tokenizer(vocab=list(pieces.items()), extra_ids=0, model_max_length=LENGTH)


def build_qwen_tokenizer(seed: int = 0, sentences: int = 20_000) -> Qwen2Tokenizer:
    """Byte pairs learnt on captions and instructions; the chat template is the sentence alone."""
    rng = np.random.default_rng(seed)
    cut = Qwen2Tokenizer().backend_tokenizer.pre_tokenizer.pre_tokenize_str
    counts: Counter[str] = Counter()
    for _ in range(sentences // 2):
        words = sample_words(rng)
        for sentence in (sample_caption(words, rng), sample_instruction(words, sample_words(rng), rng)):
            counts.update(word for word, _ in cut(sentence))
    # Any word may begin a sentence, where no space goes before it.
    counts.update(word for word in [*all_words(), *instruction_words()])
    merges = learn_merges(counts, end="")
    tokens = ["<|endoftext|>", *sorted(ByteLevel.alphabet()), *(a + b for a, b in merges)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def write_tokenizers(folder: Path) -> None:
    """Both tokenizers, each in a folder of its own."""
    build_t5_tokenizer().save_pretrained(folder / "t5")
    build_qwen_tokenizer().save_pretrained(folder / "qwen")
