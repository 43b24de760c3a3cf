"""A GemmaTokenizer of our own, which knows the words of the grammar and spells all others in bytes."""

from collections import Counter

import numpy as np
from transformers import GemmaTokenizer

from tools.mini_sd.captions import all_words, sample_caption
from tools.mini_sd.tokenizer import LENGTH, learn_merges
from tools.mini_sd.words import sample_words

SPACE = "▁"
SPECIAL = ("<pad>", "<eos>", "<bos>", "<unk>", "<mask>")


def build_tokenizer(seed: int = 0, captions: int = 20_000) -> GemmaTokenizer:
    """Byte pairs learnt on captions, of which all but the first word begin with a space."""
    rng = np.random.default_rng(seed)
    counts: Counter[str] = Counter(all_words())  # any of them may begin a sentence
    for _ in range(captions):
        counts.update(SPACE + word for word in sample_caption(sample_words(rng), rng).replace(",", " ,").split())
    counts[","] = counts.pop(f"{SPACE},", 1)
    merges = learn_merges(counts, end="")
    letters = sorted({letter for word in counts for letter in word} | {SPACE})
    spelt = [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = [*SPECIAL, *spelt, *letters, *(a + b for a, b in merges)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return GemmaTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH, padding_side="right")
