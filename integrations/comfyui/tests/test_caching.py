"""What ComfyUI takes from its cache: a node runs again when its fingerprint changes, and only then."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from comfy_api.latest import io
from conftest import Nodes, clip, defaults, run

from tokenflow.models.checkpoints import hub

Node = type[io.ComfyNode]


def fingerprinted(nodes: Nodes) -> Nodes:
    return {name: node for name, node in nodes.items() if "fingerprint_inputs" in vars(node)}


def constants(node: Node, **given: Any) -> dict[str, Any]:
    """All inputs as ComfyUI hands them to a fingerprint: constants, and None for what is linked."""
    return {each.id: None for each in node.GET_SCHEMA().inputs} | defaults(node) | given


def test_every_node_has_a_fingerprint_with_all_inputs_linked_or_not(nodes: Nodes) -> None:
    named = {"LoadModel", "LoRA", "TextualInversion", "ControlNet", "Edit", "Invert"}
    assert set(fingerprinted(nodes)) == {f"Tokenflow{name}" for name in named}
    for node in fingerprinted(nodes).values():
        for given in (constants(node), dict.fromkeys(constants(node))):
            assert node.fingerprint_inputs(**given) == node.fingerprint_inputs(**given)


PLACES: Mapping[str, tuple[str, str, str]] = {
    "TokenflowLoadModel": ("model", "checkpoints", "one.safetensors"),
    "TokenflowLoRA": ("lora", "loras", "one.safetensors"),
    "TokenflowTextualInversion": ("embedding", "embeddings", "one.safetensors"),
    "TokenflowControlNet": ("controlnet", "controlnet", "one.safetensors"),
}


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("by_path", [False, True], ids=["in a folder of ComfyUI", "by its path"])
def test_a_file_that_was_replaced_is_noticed(name: str, by_path: bool, nodes: Nodes, models: Path) -> None:
    widget, kind, file = PLACES[name]
    path = models / kind / file
    path.write_bytes(b"before")
    try:
        node = nodes[name]
        given = constants(node, **{"path": str(path)} if by_path else {widget: file})
        before = node.fingerprint_inputs(**given)
        assert node.fingerprint_inputs(**given) == before
        path.write_bytes(b"replaced")
        assert node.fingerprint_inputs(**given) != before
    finally:
        path.unlink()


@pytest.mark.parametrize(("name", "widget"), [("TokenflowLoadModel", "base"), ("TokenflowEdit", "ip_adapter")])
def test_so_is_one_that_a_text_names(name: str, widget: str, nodes: Nodes, tmp_path: Path) -> None:
    path = tmp_path / "one.safetensors"
    path.write_bytes(b"before")
    given = constants(nodes[name], **{widget: str(path)})
    before = nodes[name].fingerprint_inputs(**given)
    path.write_bytes(b"replaced")
    assert nodes[name].fingerprint_inputs(**given) != before


def test_so_is_a_part_of_a_folder(nodes: Nodes, models: Path) -> None:
    node = nodes["TokenflowLoadModel"]
    given = constants(node, model="ein Modell")
    before = node.fingerprint_inputs(**given)
    file = models / "diffusers" / "ein Modell" / "scheduler" / "scheduler_config.json"
    content = file.read_text(encoding="utf-8")
    try:
        file.write_text(content.replace("{", '{"_note": 1,', 1), encoding="utf-8")
        assert node.fingerprint_inputs(**given) != before
    finally:
        file.write_text(content, encoding="utf-8")


@pytest.mark.parametrize("revision", ["", "main"])
def test_a_download_is_no_change_of_the_model(revision: str, nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    node = nodes["TokenflowLoadModel"]
    given = constants(node, path="someone/model", revision=revision)
    before = node.fingerprint_inputs(**given)
    monkeypatch.setattr(hub, "cached_commit", lambda *_: "0123456789abcdef")
    assert node.fingerprint_inputs(**given) == before


def test_a_deleted_inversion_is_made_again(nodes: Nodes, model: Any) -> None:
    node = nodes["TokenflowInvert"]
    options = {"model": model, "video": clip(3), "prompt": "a dog to lose", "steps": 1}
    folder = run(node, **options)[0].clip.inversion.folder
    before = node.fingerprint_inputs(**constants(node))
    assert node.fingerprint_inputs(**constants(node)) == before
    shutil.rmtree(folder)
    after = node.fingerprint_inputs(**constants(node))
    assert after != before
    again = run(node, **options)[0]
    assert node.fingerprint_inputs(**constants(node)) == after  # once for each loss, so that edits stay cached
    run(nodes["TokenflowEdit"], inversion=again, prompt="a tiger")


def test_a_link_to_a_folder_above_it_is_followed_once(nodes: Nodes, models: Path) -> None:
    loop = models / "diffusers" / "more" / "above"
    loop.parent.mkdir()
    loop.symlink_to(models / "diffusers", target_is_directory=True)
    try:
        chooser = next(each for each in nodes["TokenflowLoadModel"].GET_SCHEMA().inputs if each.id == "model")
        assert chooser.options.count("ein Modell") == 1
    finally:
        loop.unlink()
        loop.parent.rmdir()
