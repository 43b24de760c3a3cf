"""Workflows as ComfyUI's page saves them, and prompts as its HTTP API takes them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

PACK = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((PACK / "example_workflows").glob("*.json"))
BLUEPRINTS = sorted((PACK / "subgraphs").glob("*.json"))

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")

Prompt = dict[str, dict[str, Any]]
NodeInfo = Mapping[str, Any]
"""Of a node, as `/object_info` tells it."""


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def widgets(info: NodeInfo) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The widgets of a node in order: name and options."""
    for group in ("required", "optional"):
        for name, (kind, *rest) in info["input"].get(group, {}).items():
            options = rest[0] if rest else {}
            if (isinstance(kind, list) or kind in WIDGETS) and not options.get("forceInput"):
                yield name, options


def widget_values(node: Mapping[str, Any], info: NodeInfo) -> dict[str, Any]:
    """The values of a node's widgets by name; widgets that were added to the node since have their defaults.

    After a seed the page saves what happens to it next.
    """
    values = iter(node.get("widgets_values", ()))
    named = {}
    for name, options in widgets(info):
        named[name] = next(values, options.get("default"))
        if options.get("control_after_generate"):
            next(values, None)
    return named


def as_prompt(workflow: Mapping[str, Any], infos: Mapping[str, NodeInfo]) -> Prompt:
    """A workflow without subgraphs as a prompt."""
    origins = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] == "MarkdownNote":
            continue
        linked = {each["name"]: origins[each["link"]] for each in node["inputs"] if each["link"] is not None}
        inputs = {**widget_values(node, infos[node["type"]]), **linked}
        prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt
