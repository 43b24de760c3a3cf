"""Stage: trains the byte-pair encoding of a CLIPTokenizer of our own on captions of the grammar.

Small enough to ship; every byte is in it, so that any text can be encoded. Loads as a CLIPTokenizer with nothing of
ours installed. Beside it lies `vocabulary.json`, the words that the model has seen.
"""

import argparse
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from tools.mini_sd.captions import all_words, sample_caption
from tools.mini_sd.training import RUNS
from tools.mini_sd.words import KINDS, NOBODY, PLAIN, sample_words

LENGTH = 32  # tokens of a prompt, its start and its end included
START, END = "<|startoftext|>", "<|endoftext|>"


def learn_merges(counts: Counter[str], end: str = "</w>") -> list[tuple[str, str]]:
    """Byte-pair merges, the most frequent pair first, until every counted word is one token.

    Our own few lines, because the library's trainer breaks ties differently from run to run.

    Args:
        counts: how often each word occurs.
        end: what the last piece of a word carries.
    """
    words = {word: [*word[:-1], f"{word[-1]}{end}"] for word in sorted(counts)}
    merges: list[tuple[str, str]] = []
    while True:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, pieces in words.items():
            for pair in pairwise(pieces):
                pairs[pair] += counts[word]
        if not pairs:
            return merges
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        merges.append(best)
        words = {word: _merge(pieces, best) for word, pieces in words.items()}


def _merge(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for piece in pieces:
        if merged and (merged[-1], piece) == pair:
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged


def train_tokenizer(seed: int = 0, captions: int = 20_000) -> CLIPTokenizer:
    """Learns merges from captions; the same seed gives the same tokenizer."""
    rng = np.random.default_rng(seed)
    # CLIPTokenizer's own way to cut a text into words, so that the merges fit what it will see.
    cut = CLIPTokenizer().backend_tokenizer.pre_tokenizer.pre_tokenize_str
    counts: Counter[str] = Counter()
    for _ in range(captions):
        counts.update(word for word, _ in cut(sample_caption(sample_words(rng), rng)))
    merges = learn_merges(counts)
    alphabet = sorted(ByteLevel.alphabet())
    tokens = [START, END, *alphabet, *(f"{byte}</w>" for byte in alphabet), *(a + b for a, b in merges)]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def write_tokenizer(folder: Path, seed: int = 0) -> CLIPTokenizer:
    """The tokenizer in transformers' layout, and the known words beside it."""
    tokenizer = train_tokenizer(seed)
    tokenizer.save_pretrained(folder)
    said = {kind: [word for word in words if word not in (PLAIN, NOBODY)] for kind, words in KINDS.items()}
    known = said | {"words": all_words()}
    (folder / "vocabulary.json").write_text(json.dumps(known, indent=2) + "\n")
    return tokenizer


def main() -> None:
    """Writes the tokenizer into the training folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    tokenizer = write_tokenizer(arguments.runs / "tokenizer", arguments.seed)
    print(f"{len(tokenizer)} tokens, {len(all_words())} words")


if __name__ == "__main__":
    main()
