"""Weights in prompts, as A1111 writes them: `(tiger:1.3)`, `(tiger)`, `[grass]`, `BREAK`, and escapes such as `\\(`.

`(words)` weighs words 1.1 times as much, `[words]` 1.1 times less, and `(words:1.3)` 1.3 times as much; nested weights
multiply. `BREAK` begins another chunk of the prompt. A bracket that stays open reaches to the end; one that closes
nothing is text. What a weight does is in models/clip_text.py.
"""

import re
from dataclasses import dataclass

from tokenflow.errors import ConfigError
from tokenflow.events import notice

BRACKET = 1.1
"""The weight of one pair of round brackets."""

TOKENS = re.compile(r"\\[()\[\]\\]|[(\[\])]|:\s*([+-]?\d*\.?\d+)\s*\)|[^\\()\[\]:]+|:|\\")
"""Escapes, brackets, the end of an explicit weight, and text between them."""

BREAK = re.compile(r"\s*\bBREAK\b\s*")


@dataclass(frozen=True)
class Fragment:
    """Words of a prompt that have one weight."""

    text: str
    weight: float = 1.0


Section = tuple[Fragment, ...]
"""The fragments of a prompt between two `BREAK`s."""


def parse_prompt(prompt: str) -> tuple[Section, ...]:
    """The sections of a prompt, at least one, with a notice if a bracket stays open.

    Each has at least one fragment, which may be empty.

    Raises:
        ConfigError: a weight is negative.
    """
    parsed = [_parsed(section) for section in BREAK.split(prompt)]
    if any(is_open for _, is_open in parsed):
        notice(f"a bracket of the prompt {prompt!r} stays open and reaches to its end; close it, or write \\( or \\[")
    return tuple(section for section, _ in parsed)


def plain_text(prompt: str) -> str:
    """A prompt without its weights: what it says."""
    sections = (_parsed(section)[0] for section in BREAK.split(prompt))
    return " ".join("".join(fragment.text for fragment in section) for section in sections)


def notice_unread_weights(prompt: str) -> None:
    """A notice for a model that reads brackets as text, where a prompt has weights or a `BREAK`."""
    sections = parse_prompt(prompt)
    if len(sections) > 1 or any(fragment.weight != 1 for fragment in sections[0]):
        notice(
            f"this model reads the brackets, weights and BREAK of the prompt {prompt!r} as text, since its text "
            "encoder does not weigh words; write it without them"
        )


def _parsed(section: str) -> tuple[Section, bool]:
    """The fragments of a section, and whether a bracket stays open."""
    pieces: list[Fragment] = []
    opened: dict[str, list[int]] = {"(": [], "[": []}  # how many pieces there were when each bracket opened

    def multiply(start: int, factor: float) -> None:
        pieces[start:] = [Fragment(piece.text, piece.weight * factor) for piece in pieces[start:]]

    for token in TOKENS.finditer(section):
        text, weight = token[0], token[1]
        if text in opened:
            opened[text].append(len(pieces))
        elif weight is not None and opened["("]:
            multiply(opened["("].pop(), _checked(float(weight), section))
        elif text == ")" and opened["("]:
            multiply(opened["("].pop(), BRACKET)
        elif text == "]" and opened["["]:
            multiply(opened["["].pop(), 1 / BRACKET)
        else:
            pieces.append(Fragment(text[1:] if re.fullmatch(r"\\[()\[\]\\]", text) else text))
    for start in opened["("]:
        multiply(start, BRACKET)
    for start in opened["["]:
        multiply(start, 1 / BRACKET)
    return tuple(_joined(pieces)), bool(opened["("] or opened["["])


def _joined(pieces: list[Fragment]) -> list[Fragment]:
    """Neighbours of the same weight as one fragment; empty ones are dropped."""
    joined: list[Fragment] = []
    for piece in pieces:
        if joined and joined[-1].weight == piece.weight:
            joined[-1] = Fragment(joined[-1].text + piece.text, piece.weight)
        else:
            joined.append(piece)
    return [piece for piece in joined if piece.text.strip()] or [Fragment("")]


def _checked(weight: float, section: str) -> float:
    if weight < 0:
        raise ConfigError(f"a weight of the prompt {section!r} is {weight:g}; expected 0 or more")
    return weight
