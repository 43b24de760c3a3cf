"""Texts of the library in the words of the nodes: it names settings as YAML does, and a workflow has widgets."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from pydantic import BaseModel

from tokenflow import config
from tokenflow.errors import TokenflowError

Section = TypeVar("Section", bound=BaseModel)

MODES = {
    "pnp": "Mode: Plug-and-Play",
    "sdedit": "Mode: SDEdit",
    "controlnet": "Mode: ControlNet",
    "flowedit": "Mode: FlowEdit",
    "instruct": "Mode: Instruct",
    "keyframes": "Mode: Edited Keyframes",
}
"""The nodes of modes by their names in the library."""

NODES = {"clip": "Invert", "inversion": "Invert", "model": "Load Model", "edit": "Edit", "edit.regions": "Region"} | {
    f"edit.{name}": node for name, node in MODES.items()
}
"""The nodes of settings by their sections in the library."""

_SECTIONS: dict[str, type[BaseModel]] = {
    "clip": config.Clip,
    "inversion": config.Inversion,
    "model": config.Model,
    "edit": config.Edit,
    "edit.regions": config.Region,
    "edit.pnp": config.PnP,
    "edit.sdedit": config.SDEdit,
    "edit.controlnet": config.ControlNet,
    "edit.flowedit": config.FlowEdit,
    "edit.instruct": config.Instruct,
    "edit.keyframes": config.Keyframes,
}

_MODE = "|".join(MODES)
_SECTION = "|".join(re.escape(each) for each in NODES)
_SETTING = "|".join(
    rf"{re.escape(section)}\.{name}" for section, kind in _SECTIONS.items() for name in kind.model_fields
)

PHRASES = (
    # Several forms of a setting, of which a widget has one.
    (r", or to a box \[width, height\]", ""),
    (r", or a box \[width, height\], each", ""),
    (r", or to \[\] for one shot", ", or leave it empty for one shot"),
    (r"edit\.regions=\[\]", "link no Region"),
    (r"\bset model\.loras to \[\{path: this file\}\], and", "choose it in LoRA, and set"),
    (r"\bset model\.textual_inversions to \[\{path: this file\}\], and", "choose it in Textual Inversion, and set"),
    # What stands for null, true and false.
    (r"\bor null, which adapts\b", "or 0, which adapts"),
    (r"\b(model\.variant\b.*?), or to null", r"\1, or leave it empty"),
    (r"\bto null\b", "to auto"),
    (r"\bmodel\.few_step to false\b", "few_step of Load Model to no"),
    # Commands and settings that a workflow does not have.
    (r"\. `tokenflow keyframes` writes the frames to edit", ""),
    (r"\bone that `tokenflow models` lists\b", "a supported one"),
    (r",? or set trajectories\.dir to a writable folder", ", or change keep of Invert"),
    (r"\bset another trajectories\.dir\b", "change keep of Invert"),
    # Nodes that are linked or not.
    (r"\bset edit\.mode to another, or\b", "link another mode, or set"),
    (rf"\bedit\.mode is ({_MODE}), but\b", lambda found: f"{MODES[found[1]]} is linked, but"),
    (rf"\bedit\.mode(?:=| )({_MODE})\b", lambda found: MODES[found[1]]),
    (rf"\bthe mode ({_MODE})\b", lambda found: MODES[found[1]]),
    (r"\bleave edit\.references out\b", "link no Reference"),
    (r"\bmodel\.loras\b", "path of LoRA"),
    (r"\bmodel\.textual_inversions\b", "path of Textual Inversion"),
    # All others.
    (rf"\ba ({_SECTION})\.prompt\b", lambda found: f"a prompt of {NODES[found[1]]}"),
    (rf"\b({_SECTION})\.prompt\b", lambda found: f"the prompt of {NODES[found[1]]}"),
    (rf"(?<![\w./\\])({_SETTING})(?!\.?[\w/\\])", lambda found: _widget(found[1])),  # and not a part of a path
)
"""Patterns and what to say in their place, in this order."""


def _widget(setting: str) -> str:
    """A widget and its node, by the setting that it stands for."""
    section, _, name = setting.rpartition(".")
    return f"{name} of {NODES[section]}"


def in_words_of_nodes(text: str) -> str:
    """A message of the library, with nodes and widgets in place of settings."""
    for pattern, replacement in PHRASES:
        text = re.sub(pattern, replacement, text)
    return text


@contextmanager
def told_on_node() -> Iterator[None]:
    """Errors of the library in the words of nodes; ComfyUI shows them on the node that is running."""
    try:
        yield
    except TokenflowError as error:
        raise type(error)(in_words_of_nodes(str(error))) from error


def made(section: type[Section], **values: object) -> Section:
    """A section of settings with these values.

    Raises:
        ConfigError: saying in one line which are wrong, and what was expected.
    """
    from tokenflow.pipeline.validation import validated  # takes seconds to import

    with told_on_node():
        return validated(section, **values)
