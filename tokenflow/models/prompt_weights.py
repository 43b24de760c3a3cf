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

TOKENS = re.compile(r"\\[()\[\]\\]|[(\[\])]|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)|[^\\()\[\]:]+|:|\\")
"""Escapes, brackets, the end of an explicit weight, and text between them."""

BREAK = re.compile(r"\s*\bBREAK\b\s*")

LORA = re.compile(r"<(?:lora|lyco|hypernet):[^<>]*>")
"""What loads an adapter in A1111."""


@dataclass(frozen=True)
class Fragment:
    """Words of a prompt that have one weight."""

    text: str
    weight: float = 1.0


Section = tuple[Fragment, ...]
"""The fragments of a prompt between two `BREAK`s."""


def parse_prompt(prompt: str) -> tuple[Section, ...]:
    """The sections of a prompt, at least one, with a notice if a bracket stays open, or a LoRA is named in it.

    Each has at least one fragment, which may be empty; neighbours differ in weight.

    Raises:
        ConfigError: a weight is negative.
    """
    sections, is_open = _parsed(prompt)
    if is_open:
        notice(f"a bracket of the prompt {prompt!r} stays open and reaches to its end; close it, or write \\( or \\[")
    named = LORA.search(prompt)
    if named:
        notice(f"{named[0]!r} in the prompt is read as text and loads nothing; set model.loras, and remove it")
    return sections


def plain_text(prompt: str) -> str:
    """A prompt without its weights: what it says."""
    sections, _ = _parsed(prompt)
    return " ".join("".join(fragment.text for fragment in section) for section in sections).strip()


def notice_unread_weights(prompt: str) -> None:
    """A notice for a model that reads brackets as text, where a prompt has weights or a `BREAK`."""
    sections = parse_prompt(prompt)
    if len(sections) > 1 or any(fragment.weight != 1 for fragment in sections[0]):
        notice(
            f"this model reads the brackets, weights and BREAK of the prompt {prompt!r} as text, since its text "
            "encoder does not support prompt weights; write it without them"
        )


def _parsed(prompt: str) -> tuple[tuple[Section, ...], bool]:
    """The sections of a prompt, and whether a bracket stays open."""
    pieces: list[Fragment | None] = []  # None for a BREAK, which may stand inside of brackets
    opened: dict[str, list[int]] = {"(": [], "[": []}  # how many pieces there were when each bracket opened

    def multiply(start: int, factor: float) -> None:
        pieces[start:] = [each and Fragment(each.text, each.weight * factor) for each in pieces[start:]]

    for token in TOKENS.finditer(prompt):
        text, weight = token[0], token[1]
        if text in opened:
            opened[text].append(len(pieces))
        elif weight is not None and opened["("]:
            multiply(opened["("].pop(), _checked(float(weight), prompt))
        elif text == ")" and opened["("]:
            multiply(opened["("].pop(), BRACKET)
        elif text == "]" and opened["["]:
            multiply(opened["["].pop(), 1 / BRACKET)
        elif re.fullmatch(r"\\[()\[\]\\]", text):
            pieces.append(Fragment(text[1:]))
        else:
            first, *others = BREAK.split(text)
            pieces.append(Fragment(first))
            for other in others:
                pieces += [None, Fragment(other)]
    for start in opened["("]:
        multiply(start, BRACKET)
    for start in opened["["]:
        multiply(start, 1 / BRACKET)
    sections: list[list[Fragment]] = [[]]
    for piece in pieces:
        if piece is None:
            sections.append([])
        else:
            sections[-1].append(piece)
    return tuple(_joined(section) for section in sections), bool(opened["("] or opened["["])


def _joined(pieces: list[Fragment]) -> Section:
    """Neighbours of the same weight as one fragment; blank ones, which have nothing to weigh, join any neighbour."""
    joined = [Fragment("")]
    for piece in pieces:
        last = joined[-1]
        if not last.text.strip() or not piece.text.strip() or last.weight == piece.weight:
            weight = last.weight if last.text.strip() else piece.weight
            joined[-1] = Fragment(last.text + piece.text, weight)
        else:
            joined.append(piece)
    return tuple(joined) if joined[-1].text.strip() else (Fragment(""),)


def _checked(weight: float, prompt: str) -> float:
    if weight < 0:
        raise ConfigError(f"a weight of the prompt {prompt!r} is {weight:g}; expected 0 or more")
    return weight
