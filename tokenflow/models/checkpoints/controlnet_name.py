"""What a ControlNet was trained on, by its name: its weights do not tell."""

import re
from collections.abc import Iterator
from pathlib import Path

from tokenflow.events import notice
from tokenflow.models.checkpoints.controlnet_file import SETTING
from tokenflow.models.checkpoints.file_kinds import is_file_name
from tokenflow.models.detectors import KINDS, OTHER_WORDS

CACHED = "models--"
"""How the cache of the Hub calls the folders of repositories: `models--owner--name`."""

WORD = re.compile(r"ip2p|[a-z]+")


def notice_other_images(path: str, detector: str) -> None:
    """A notice if a ControlNet is named after other images than it will be given."""
    kinds = next((found for name in _names(path) if (found := _kinds(name))), frozenset[str]())
    if not kinds or kinds == {detector}:
        return
    if detector in kinds:
        remedy = f"make sure that it was trained on {detector} images"
    elif kinds <= KINDS.keys():
        remedy = f"set edit.controlnet.detector to {' or '.join(sorted(kinds))}"
    else:
        remedy = f"set {SETTING} to one that was trained on what the detector makes"
    notice(
        f"the ControlNet {path!r} is named after {' and '.join(sorted(kinds))} and will be given {detector} images; "
        f"{remedy}"
    )


def _names(path: str) -> Iterator[str]:
    """What may name the images, in this order: the repository in the Hub's cache, the path, the folder of a file."""
    parts = Path(path).parts
    yield from (part.rpartition("--")[2] for part in parts if part.startswith(CACHED))
    yield parts[-1]
    if is_file_name(path):
        yield from parts[-2:-1]


def _kinds(name: str) -> frozenset[str]:
    """Detectors, and words for what no detector makes, that a name holds; none for a union of several."""
    words = WORD.findall(name.lower())
    if "union" in words:
        return frozenset()
    stems = {stem: kind for kind, each in KINDS.items() for stem in each.words} | {word: word for word in OTHER_WORDS}
    return frozenset(stems[stem] for stem in stems if any(word.startswith(stem) for word in words))
