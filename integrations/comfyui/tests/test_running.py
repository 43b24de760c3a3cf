"""Long calls under ComfyUI: progress, previews, messages and interrupts."""

from types import ModuleType
from typing import Any

import comfy.utils
import pytest
import torch
from comfy import model_management
from conftest import HEIGHT, WIDTH, Nodes, clip, run
from PIL import Image
from server import PromptServer


class Hook:
    """Stands where ComfyUI's server listens to progress bars."""

    def __init__(self) -> None:
        self.values: list[tuple[int, int]] = []
        self.images: list[Image.Image] = []

    def __call__(self, value: int, total: int, preview: Any, node_id: str | None = None) -> None:
        self.values.append((value, total))
        if preview is not None:
            self.images.append(preview[1])


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Hook:
    hook = Hook()
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    return hook


def test_an_edit_reports_its_steps_and_shows_each(nodes: Nodes, inversion: Any, hook: Hook) -> None:
    run(nodes["TokenflowEdit"], inversion=inversion, prompt="a tiger")
    assert (3, 3) in hook.values
    assert len(hook.images) == 3
    assert all(image.height >= 256 and image.width > image.height for image in hook.images)


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


def test_notices_appear_on_the_node_and_in_the_log(
    nodes: Nodes, inversion: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shown: list[tuple[str, str]] = []
    monkeypatch.setattr(PromptServer.instance, "send_progress_text", lambda text, node: shown.append((text, node)))
    nowhere = run(nodes["TokenflowRegion"], mask=torch.zeros(1, HEIGHT, WIDTH))[0]
    run(nodes["TokenflowEdit"], inversion=inversion, prompt="a tiger", regions=nowhere)
    assert shown
    assert all(node == "7" for _, node in shown)
    assert shown[0][0] in caplog.text


def test_a_preview_is_a_row_of_a_few_frames(pack: ModuleType) -> None:
    import importlib

    import numpy as np

    preview_image = importlib.import_module(f"{pack.__name__}.host.running").preview_image
    frames = np.zeros((9, 32, 48, 3), np.uint8)
    assert preview_image(frames).size == (4 * 48 * 8, 256)
    assert preview_image(frames[:2].repeat(20, axis=1)).size == (2 * 48, 640)
