"""Schemas of nodes, with as much of them as this ComfyUI has."""

from dataclasses import fields
from typing import Any

from comfy_api.latest import io

from .types import CATEGORY

SEARCH_WORDS = ("tokenflow", "video to video", "vid2vid", "edit video", "temporal consistency")
"""By which every node is found, besides its own."""


def schema(node_id: str, display_name: str, *, search_words: tuple[str, ...] = (), **values: Any) -> io.Schema:
    """The schema of a node; what this version of ComfyUI has no field for is left out.

    Args:
        node_id: after `Tokenflow`.
        display_name: after `TokenFlow`.
        search_words: by which the node is found, besides its name.
        values: the other fields of `io.Schema`.
    """
    known = {field.name for field in fields(io.Schema)}
    wanted = {"category": CATEGORY, "search_aliases": [*search_words, *SEARCH_WORDS], **values}
    return io.Schema(
        node_id=f"Tokenflow{node_id}",
        display_name=f"TokenFlow {display_name}",
        **{name: value for name, value in wanted.items() if name in known},
    )


def advanced(*inputs: io.Input) -> list[io.Input]:
    """Inputs that are folded away until they are asked for."""
    for each in inputs:
        each.extra_dict = {**each.extra_dict, "advanced": True}
    return list(inputs)
