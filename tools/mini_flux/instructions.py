"""Two sets of words to the instruction that turns a picture of the first into one of the second."""

from dataclasses import replace

import numpy as np

from tools.mini_sd.captions import LIGHT_PHRASES, MATERIAL_PHRASES, OBJECT_NAMES, PLACES
from tools.mini_sd.words import LIGHTS, PLAIN, Words

OBJECT_CHANGES = ("make the {} {}", "turn the {} into {}", "replace the {} with {}", "change the {} into {}")
MATERIAL_CHANGES = ("make the {} {}", "turn the {} into {}", "change the {} to {}")
PLACE_CHANGES = ("put it {}", "put the {thing} {}", "move it {}", "set it {}")
LIGHT_CHANGES = ("make it {}", "change the time to {}")
STYLE_CHANGES = ("draw it in {} style", "make it {} style", "change the style to {}")
REFERENCE_CHANGES = ("replace the {} with the {}one of picture two", "turn the {} into the {}one of picture two")
REFERENCE_PLACES = ("put it on the ground of picture three", "set it where picture three is")
CHANGEABLE = ("object", "material", "background", "light", "style")


def sample_instruction(before: Words, after: Words, rng: np.random.Generator) -> str:
    """A sentence for all that differs, its parts joined by `and`; empty where nothing does."""
    parts = []
    thing = _pick(OBJECT_NAMES.get(before.object, (before.object,)), rng)
    if before.object != after.object:
        name = _pick(OBJECT_NAMES.get(after.object, (after.object,)), rng)
        if after.material != PLAIN:
            name = _pick(MATERIAL_PHRASES[after.material], rng).format(name)
        parts.append(_pick(OBJECT_CHANGES, rng).format(thing, with_article(name)))
    elif before.material != after.material:
        parts.append(_pick(MATERIAL_CHANGES, rng).format(thing, after.material))
    if before.background != after.background:
        parts.append(_pick(PLACE_CHANGES, rng).format(_pick(PLACES[after.background], rng), thing=thing))
    if before.light != after.light:
        shown = f"show it {_pick(LIGHT_PHRASES[after.light], rng)}"
        parts.append(shown if rng.random() < 0.3 else _pick(LIGHT_CHANGES, rng).format(after.light))
    if before.style != after.style:
        parts.append(_pick(STYLE_CHANGES, rng).format(after.style))
    return " and ".join(parts)


def with_references(before: Words, after: Words, references: int, rng: np.random.Generator) -> str:
    """An instruction whose object the second picture shows, and whose background the third, if there is one."""
    thing = _pick(OBJECT_NAMES.get(before.object, (before.object,)), rng)
    material = "" if after.material == PLAIN else f"{after.material} "
    parts = [_pick(REFERENCE_CHANGES, rng).format(thing, material)]
    named = {"object": after.object, "material": after.material}
    if references > 2:
        parts.append(_pick(REFERENCE_PLACES, rng))
        named["background"] = after.background
    rest = sample_instruction(replace(before, **named), after, rng)
    return " and ".join([*parts, *([rest] if rest else [])])


def sample_change(before: Words, other: Words, rng: np.random.Generator) -> Words:
    """`before` with one or two of its words, sometimes three, replaced by those of `other`."""
    count = rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1])
    kinds = rng.choice(CHANGEABLE, size=count, replace=False)
    changed = {kind: getattr(other, kind) for kind in kinds}
    return Words(**{kind: changed.get(kind, getattr(before, kind)) for kind in before.__dataclass_fields__})


def instruction_words() -> list[str]:
    """Every single word that an instruction adds to those of captions, sorted."""
    tables = (OBJECT_CHANGES, MATERIAL_CHANGES, PLACE_CHANGES, LIGHT_CHANGES, STYLE_CHANGES)
    tables += (REFERENCE_CHANGES, REFERENCE_PLACES)
    phrases = " ".join(phrase for table in tables for phrase in table)
    cleaned = phrases.replace("{thing}", " ").replace("{}", " ")
    return sorted({*cleaned.split(), *LIGHTS, PLAIN, "show"})


def with_article(thing: str) -> str:
    """`a tiger`, `an elephant`."""
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"


def _pick(phrases: tuple[str, ...], rng: np.random.Generator) -> str:
    return phrases[rng.integers(len(phrases))]
