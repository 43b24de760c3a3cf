"""Words to a sentence: the plain one, and any of the many that mean the same.

A grammar with synonyms and dropped parts. Style and background may be dropped; objects, material, and a light other
than day never are, so that what a sentence leaves unsaid is alone, plain and by day.
"""

from itertools import chain

import numpy as np

from tools.mini_sd.words import DAY, NOBODY, OBJECTS, PLAIN, Words

OBJECT_NAMES: dict[str, tuple[str, ...]] = {
    "cat": ("cat", "kitten"),
    "dog": ("dog", "puppy"),
    "horse": ("horse", "pony"),
    "pig": ("pig", "piglet"),
    "rhino": ("rhino", "rhinoceros"),
    "bison": ("bison", "buffalo"),
    "sheep": ("sheep", "lamb"),
    "hippo": ("hippo", "hippopotamus"),
    "car": ("car", "automobile"),
    "taxi": ("taxi", "cab"),
    "fire engine": ("fire engine", "fire truck"),
    "pickup truck": ("pickup truck", "pickup"),
    "rabbit": ("rabbit", "bunny"),
    "donkey": ("donkey", "mule"),
    "crocodile": ("crocodile", "alligator"),
    "turtle": ("turtle", "tortoise"),
    "rooster": ("rooster", "cock"),
    "squirrel": ("squirrel", "chipmunk"),
    "bicycle": ("bicycle", "bike"),
    "motorcycle": ("motorcycle", "motorbike"),
    "scooter": ("scooter", "moped"),
    "truck": ("truck", "lorry"),
    "train": ("train", "steam train", "locomotive"),
}
MATERIAL_PHRASES: dict[str, tuple[str, ...]] = {
    "marble": ("marble {}", "{} made of marble", "marble statue of a {}"),
    "golden": ("golden {}", "gold {}", "{} made of gold"),
    "silver": ("silver {}", "{} made of silver"),
    "jade": ("jade {}", "{} made of jade", "green jade {}"),
}
PLACES: dict[str, tuple[str, ...]] = {
    "grass": ("on grass", "on the grass", "in a meadow", "on a lawn"),
    "sand": ("on sand", "on the sand", "in the desert", "on a beach"),
    "snow": ("on snow", "in the snow", "on snowy ground"),
    "the sea": ("on the sea", "on the ocean", "on the water"),
    "a road": ("on a road", "on the road", "on a street"),
    "a wooden floor": ("on a wooden floor", "on the wooden floor", "on wooden planks"),
    "the moon": ("on the moon", "on the lunar surface"),
    "a brick wall": ("on a brick wall", "in front of a brick wall", "before a brick wall"),
}
LIGHT_PHRASES: dict[str, tuple[str, ...]] = {
    "day": ("by day", "in daylight"),
    "night": ("at night", "by night", "in the dark"),
    "sunset": ("at sunset", "at dusk", "in the evening"),
}
STYLE_PHRASES: dict[str, tuple[str, ...]] = {
    "flat": ("flat style", "in flat style", "flat drawing"),
    "3d": ("3d style", "in 3d style", "3d render"),
    "cartoon": ("cartoon style", "in cartoon style", "cartoon drawing"),
    "sticker": ("sticker style", "in sticker style", "sticker art"),
}
JOININGS = ("and", "with", "and also")
OPENINGS = ("a picture of ", "an image of ", "a drawing of ")


def caption(words: Words) -> str:
    """The plain sentence, with nothing dropped: `a golden tiger and a dog on grass at night, 3d style`."""
    light = "" if words.light == DAY else f" {LIGHT_PHRASES[words.light][0]}"
    thing = words.object if words.material == PLAIN else f"{words.material} {words.object}"
    company = "" if words.companion == NOBODY else f" {JOININGS[0]} {_article(words.companion)}"
    return f"{_article(thing)}{company} {PLACES[words.background][0]}{light}, {STYLE_PHRASES[words.style][0]}"


def sample_caption(words: Words, rng: np.random.Generator) -> str:
    """One of the sentences that describe the scene; the plain wording more often than any other."""
    if rng.random() < 0.3:
        return caption(words)
    thing = _sample_name(words.object, rng)
    if words.material != PLAIN:
        thing = _pick(MATERIAL_PHRASES[words.material], rng).format(thing)
    company = ""
    if words.companion != NOBODY:
        company = f" {_pick(JOININGS, rng)} {_article(_sample_name(words.companion, rng))}"
    place = "" if rng.random() < 0.06 else " " + _pick(PLACES[words.background], rng)
    light = _sample_light(words.light, rng)
    style = "" if rng.random() < 0.3 else ", " + _pick(STYLE_PHRASES[words.style], rng)
    opening = _pick(OPENINGS, rng) if rng.random() < 0.1 else ""
    return f"{opening}{_article(thing)}{company}{place}{light}{style}"


def all_words() -> list[str]:
    """Every single word that a caption can hold, sorted: what the model has seen."""
    tables = (OBJECT_NAMES, MATERIAL_PHRASES, PLACES, LIGHT_PHRASES, STYLE_PHRASES)
    phrases = chain(OPENINGS, JOININGS, *(chain(table, *table.values()) for table in tables), OBJECTS, ("a an",))
    return sorted({word for phrase in phrases for word in phrase.replace("{}", " ").split()})


def _sample_name(name: str, rng: np.random.Generator) -> str:
    return _pick(OBJECT_NAMES.get(name, (name,)), rng)


def _sample_light(light: str, rng: np.random.Generator) -> str:
    if light == DAY and rng.random() < 0.85:
        return ""
    comma = "," if rng.random() < 0.3 else ""
    return f"{comma} {_pick(LIGHT_PHRASES[light], rng)}"


def _pick(phrases: tuple[str, ...], rng: np.random.Generator) -> str:
    """The first of the phrases half of the time, else any."""
    return phrases[0] if rng.random() < 0.5 else phrases[rng.integers(len(phrases))]


def _article(thing: str) -> str:
    return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"
