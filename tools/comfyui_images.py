"""Make the images of the ComfyUI nodes: those that the examples load, and docs/comfyui/workflow.webp.

python -m tools.comfyui_images CHECKOUT

The latter is a photograph of an example that has run in a real ComfyUI, from a checkout of it whose requirements are
installed beside tokenflow, in Chromium.
"""

import argparse
import asyncio
import io
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
from PIL import Image

from tools.web_screenshots import CHROMIUM, QUALITY, ROOT

sys.path.insert(0, str(ROOT / "integrations" / "comfyui" / "tests"))
import against_comfyui
import workflows

INPUTS = {
    against_comfyui.KEYFRAME: "dog_walk.perfect_tiger.mp4",
    against_comfyui.REFERENCE: "dog_walk.perfect_golden_tiger.mp4",
}
"""Images that examples load -> the bundled clips whose first frames they are."""

EXAMPLE = "edit_a_clip"
WORKFLOW = ROOT / "docs" / "comfyui" / "workflow.webp"

WIDTH, HEIGHT, SCALE = 1900, 1300, 0.85
LEFT, TOP = 160, 160
"""Pixels of the page beside and above the nodes, clear of its menus."""

MARGIN = 24
"""Pixels around the nodes in the image."""

OVERLAYS = "Comfy.Minimap.Visible", "Comfy.Graph.CanvasMenu", "Comfy.Graph.CanvasInfo"
"""Settings of what the page draws over nodes."""

LONG = 900_000
"""Milliseconds that the example may take."""


def write_inputs(folder: Path) -> None:
    """The images that examples load."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, clip in INPUTS.items():
        with av.open(ROOT / "data" / "clips" / clip) as source:
            next(source.decode(video=0)).to_image().save(folder / name, optimize=True)


def with_bundled_model(workflow: dict[str, Any]) -> dict[str, Any]:
    """A workflow whose model is the bundled one."""
    for node in workflow["nodes"]:
        if node["type"] == "TokenflowLoadModel":
            node["widgets_values"][:2] = ["mini-sd", ""]
    return workflow


async def photograph(address: str, workflow: dict[str, Any], path: Path) -> None:
    """Open a workflow on ComfyUI's page, run it, and photograph it as a whole."""
    from playwright.async_api import async_playwright

    executable = next(filter(None, map(shutil.which, CHROMIUM)), None)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.set_default_timeout(LONG)
        await page.goto(address)
        await page.wait_for_function("window.app?.graph && window.app.extensionManager")
        await page.evaluate(
            """async ([workflow, overlays]) => {
                for (const name of overlays) await window.app.extensionManager.setting.set(name, false)
                await window.app.loadGraphData(workflow)
            }""",
            [workflow, OVERLAYS],
        )
        await page.keyboard.press("Escape")
        await page.evaluate(
            """() => new Promise((resolve, reject) => {
                window.app.api.addEventListener('execution_success', resolve)
                window.app.api.addEventListener('execution_error', (event) => reject(JSON.stringify(event.detail)))
                window.app.queuePrompt(0)
            })"""
        )
        width, height = await page.evaluate(
            """([scale, left, top]) => {
                const nodes = window.app.graph.nodes
                const {ds, canvas} = window.app.canvas
                const place = canvas.getBoundingClientRect()
                const x = Math.min(...nodes.map((node) => node.pos[0]))
                const y = Math.min(...nodes.map((node) => node.pos[1] - 50))  // title and badge
                ds.scale = scale
                ds.offset[0] = (left - place.left) / scale - x
                ds.offset[1] = (top - place.top) / scale - y
                window.app.canvas.setDirty(true, true)
                return [
                    scale * (Math.max(...nodes.map((node) => node.pos[0] + node.size[0])) - x),
                    scale * (Math.max(...nodes.map((node) => node.pos[1] + node.size[1])) - y),
                ]
            }""",
            [SCALE, LEFT, TOP],
        )
        await page.wait_for_timeout(5000)  # videos and images are drawn
        size = {"width": width + 2 * MARGIN, "height": height + 2 * MARGIN}
        image = await page.screenshot(clip={"x": LEFT - MARGIN, "y": TOP - MARGIN, **size})
        await browser.close()
    Image.open(io.BytesIO(image)).convert("RGB").save(path, "WEBP", quality=QUALITY)
    print(f"{path} {path.stat().st_size // 1024} kB")


async def make(checkout: Path, folder: Path) -> None:
    """Write the images."""
    write_inputs(against_comfyui.INPUT)
    base = against_comfyui.prepared(folder)
    workflow = workflows.read(against_comfyui.PACK / "example_workflows" / f"{EXAMPLE}.json")
    async with against_comfyui.comfyui(checkout, base) as server:
        await photograph(server.address, with_bundled_model(workflow), WORKFLOW)


def main() -> None:
    """Make them all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="of github.com/Comfy-Org/ComfyUI")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        asyncio.run(make(arguments.checkout.resolve(), Path(folder)))


if __name__ == "__main__":
    main()
