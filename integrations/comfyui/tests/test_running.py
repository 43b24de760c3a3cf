"""Long calls under ComfyUI: progress, previews, messages and interrupts."""

import importlib
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import comfy.utils
import numpy as np
import pytest
import torch
from comfy import model_management
from comfy.cli_args import args
from conftest import FRAMES, HEIGHT, OF_THE_LIBRARY, WIDTH, Nodes, clip, run
from PIL import Image
from safetensors.torch import load_file, save_file
from server import PromptServer
from stand_in import running

import tokenflow


class Hook:
    """Stands where ComfyUI's server listens to progress bars."""

    def __init__(self) -> None:
        self.values: list[tuple[int, int]] = []
        self.images: list[Image.Image] = []
        self.sizes: list[int] = []

    def __call__(self, value: int, total: int, preview: Any, node_id: str | None = None) -> None:
        self.values.append((value, total))
        if preview is not None:
            self.images.append(preview[1])
            self.sizes.append(preview[2])


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Hook:
    hook = Hook()
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    return hook


def test_an_edit_reports_its_steps_and_shows_each(nodes: Nodes, inversion: Any, hook: Hook) -> None:
    run(nodes["TokenflowEdit"], inversion=inversion, prompt="a tiger")
    assert (3, 3) in hook.values
    assert len(hook.images) == 3
    assert all(image.width > image.height for image in hook.images)
    assert set(hook.sizes) == {args.preview_size}


def test_previews_can_be_left_out(nodes: Nodes, inversion: Any, hook: Hook) -> None:
    run(nodes["TokenflowEdit"], inversion=inversion, prompt="a tiger", preview_every=0)
    assert hook.values
    assert not hook.images


@pytest.mark.parametrize("at", [1, 4])
def test_an_interrupt_ends_an_edit_before_the_next_network_call(
    at: int, nodes: Nodes, inversion: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    model = inversion.clip.model
    predict = model.predict

    def counting(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            model_management.interrupt_current_processing()
        return predict(*arguments, **options)

    monkeypatch.setattr(model, "predict", counting)
    with pytest.raises(model_management.InterruptProcessingException):
        run(nodes["TokenflowEdit"], inversion=inversion, prompt="a tiger")
    assert calls == at
    assert not model_management.processing_interrupted()  # as ComfyUI leaves it for the next run


def test_an_interrupted_inversion_goes_on_where_it_stopped(
    nodes: Nodes, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0
    predict = model.predict

    def counting(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            model_management.interrupt_current_processing()
        return predict(*arguments, **options)

    monkeypatch.setattr(model, "predict", counting)
    options = {"model": model, "video": clip(4), "prompt": "a dog", "steps": 4}
    with pytest.raises(model_management.InterruptProcessingException):
        run(nodes["TokenflowInvert"], **options)
    interrupted, calls = calls, 10
    run(nodes["TokenflowInvert"], **options)
    assert calls - 10 < 4
    assert calls - 10 + interrupted >= 4


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What was sent to nodes: text and node."""
    sent: list[tuple[str, str]] = []
    monkeypatch.setattr(PromptServer.instance, "send_progress_text", lambda text, node: sent.append((text, node)))
    return sent


def test_notices_appear_on_the_node_and_in_the_log(
    nodes: Nodes, inversion: Any, shown: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = run(nodes["TokenflowRegion"], mask=torch.zeros(1, HEIGHT, WIDTH))[0]
    run(nodes["TokenflowEdit"], inversion=inversion, prompt="a tiger", regions=nowhere)
    assert shown
    assert all(node == "7" for _, node in shown)
    assert shown[0][0] in caplog.text
    assert "try grow of Region" in shown[0][0]
    assert not OF_THE_LIBRARY.search(shown[0][0])


def test_all_notices_of_a_run_stay_on_the_node(pack: ModuleType, shown: list[tuple[str, str]]) -> None:
    listener = importlib.import_module(f"{pack.__name__}.host.running").Listener()
    with running("7"):
        for message in ("one", "another", "one"):
            listener(tokenflow.Notice(message))
    assert [text for text, _ in shown] == ["one", "one\nanother", "one\nanother"]


def test_notices_of_loading_appear_on_load_model(
    nodes: Nodes, models: Path, tmp_path: Path, shown: list[tuple[str, str]]
) -> None:
    folder = shutil.copytree(models / "diffusers" / "ein Modell", tmp_path / "copy")
    file = next((folder / "unet").glob("*.safetensors"))
    save_file({**load_file(file), "surplus": torch.zeros(1)}, tmp_path / "new", metadata={"format": "pt"})
    (tmp_path / "new").replace(file)
    run(nodes["TokenflowLoadModel"], path=str(folder))
    assert "such as surplus" in shown[-1][0]


def test_a_report_shows_its_progress_and_can_be_interrupted(
    nodes: Nodes, inversion: Any, hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = run(nodes["TokenflowEdit"], inversion=inversion, prompt="a tiger", preview_every=0).args[3]
    hook.values.clear()
    run(nodes["TokenflowReport"], edit=edit)
    assert {total for _, total in hook.values} == {FRAMES}
    assert hook.values[-1] == (FRAMES, FRAMES)

    def interrupting(*_: Any, **__: Any) -> None:  # as ComfyUI's own hook does
        model_management.throw_exception_if_processing_interrupted()

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", interrupting)
    model_management.interrupt_current_processing()
    with pytest.raises(model_management.InterruptProcessingException):
        run(nodes["TokenflowReport"], edit=edit)


def test_a_preview_is_a_row_of_a_few_frames(pack: ModuleType) -> None:
    preview_image = importlib.import_module(f"{pack.__name__}.host.running").preview_image
    frames = np.zeros((9, 32, 48, 3), np.uint8)
    assert preview_image(frames).size == (4 * 48, 32)
    assert preview_image(frames[:2]).size == (2 * 48, 32)
