"""Run the pack in a real ComfyUI, on the CPU, as its users do: from a checkout, through its HTTP API.

    python integrations/comfyui/tests/against_comfyui.py CHECKOUT

Python must have what `CHECKOUT/requirements.txt` lists, and tokenflow. ComfyUI starts with a folder of its own, whose
name has spaces and accents, and finds the pack there as a link. Every example workflow is run with the bundled models;
its video is downloaded, and its frames, rate and sound are checked. One run is interrupted, one is run again, and
mistakes have to arrive on the node that they are of. Exits with status 1 if anything is not as expected.
"""

import argparse
import asyncio
import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import av
import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import workflows
from workflows import EXAMPLES, PACK, Prompt

from tokenflow.apps.ports import free_port

ROOT = PACK.parent.parent
sys.path.insert(0, str(ROOT))  # for the project's own tests
FRAMES, RATE, SIZE, SOUND_RATE = 8, Fraction(12), 128, 22_050
CLIP, KEYFRAME, REFERENCE = "dog_walk.mp4", "edited_frame_0.png", "reference.png"
INPUT = PACK / "example_workflows" / "input"

LORAS = "ein Tiger.safetensors", "another.safetensors"

SMALL: dict[str, dict[str, Any]] = {
    "TokenflowLoadModel": {"model": "mini-sd"},
    "TokenflowControlNet": {"path": str(ROOT / "data" / "models" / "mini-controlnet-canny")},
    "TokenflowInvert": {"steps": 4},
}
"""Widgets of the examples that are changed here: the bundled models, and few steps."""

START_SECONDS, RUN_SECONDS = 900, 1800
INTERRUPT_SECONDS = 90
"""Within which an interrupted run has to end: a network call here takes far less, a whole run far more."""


class UnexpectedError(Exception):
    """Something is not as it should be."""


def expect(condition: object, message: str) -> None:
    if not condition:
        raise UnexpectedError(message)


@dataclass
class Run:
    """What a prompt left in ComfyUI's history, and what its page was told meanwhile.

    Attributes:
        status: `success` or `error`.
        messages: by name; several of one name are one dictionary.
        outputs: of the nodes by number.
        progress: nodes that reported it, with the most steps they named.
        previews: how many images were sent meanwhile.
        texts: sent to nodes.
    """

    status: str
    messages: dict[str, dict[str, Any]]
    outputs: dict[str, Any]
    progress: dict[str, float] = field(default_factory=dict)
    previews: int = 0
    texts: list[str] = field(default_factory=list)

    def cached(self) -> set[str]:
        return set(self.messages.get("execution_cached", {}).get("nodes", ()))

    def file(self, kind: str) -> dict[str, str]:
        """The first file that a node shows, of a kind such as `.mp4`."""
        files = [each for output in self.outputs.values() for each in output.get("images", [])]
        found = [each for each in files if each["filename"].endswith(kind)]
        expect(found, f"no {kind} among {files}")
        return found[0]


class ComfyUI:
    """A running ComfyUI."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session = session
        self.address = address
        self.infos: dict[str, Any] = {}

    async def wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            try:
                self.infos = await self.get("/object_info")
                return
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(1)
        raise UnexpectedError("ComfyUI did not start")

    async def get(self, path: str, **query: str) -> Any:
        async with self._session.get(self.address + path, params=query) as answer:
            expect(answer.status == 200, f"{path} answers {answer.status}")
            return await (answer.json() if answer.content_type == "application/json" else answer.read())

    async def refused(self, prompt: Prompt) -> dict[str, Any]:
        """The errors of the nodes of a prompt that is not accepted."""
        async with self._session.post(self.address + "/prompt", json={"prompt": prompt}) as answer:
            expect(answer.status == 400, f"the prompt was accepted ({answer.status})")
            errors: dict[str, Any] = (await answer.json())["node_errors"]
            return errors

    async def run(self, prompt: Prompt, *, interrupt_at: str | None = None) -> Run:
        """Run a prompt to its end; or interrupt it once the node of that number reports progress."""
        client = f"test-{time.monotonic_ns()}"
        events = Run("", {}, {})
        async with self._session.ws_connect(f"{self.address}/ws?clientId={client}", max_msg_size=0) as socket:
            body = {"prompt": prompt, "client_id": client}
            async with self._session.post(self.address + "/prompt", json=body) as answer:
                content = await answer.json()
                expect(answer.status == 200, f"the prompt was refused: {json.dumps(content)[:2000]}")
                name = content["prompt_id"]
            deadline = time.monotonic() + RUN_SECONDS
            interrupted = False
            while time.monotonic() < deadline:
                message = await socket.receive(timeout=RUN_SECONDS)
                if message.type == aiohttp.WSMsgType.BINARY:
                    kind = int.from_bytes(message.data[:4], "big")
                    events.previews += kind in (1, 4)
                    if kind == 3:
                        events.texts.append(message.data[8 + int.from_bytes(message.data[4:8], "big") :].decode())
                    continue
                expect(message.type == aiohttp.WSMsgType.TEXT, f"the connection ended: {message}")
                event = json.loads(message.data)
                if event["type"] == "progress":
                    node = event["data"]["node"]
                    events.progress[node] = max(events.progress.get(node, 0), event["data"]["max"])
                    if node == interrupt_at and not interrupted:
                        interrupted = True
                        deadline = time.monotonic() + INTERRUPT_SECONDS
                        await self._session.post(self.address + "/interrupt")
                ended = event["type"] in ("execution_success", "execution_error", "execution_interrupted")
                if ended and event["data"]["prompt_id"] == name:
                    break
            else:
                raise UnexpectedError("it did not end in time")
        while name not in (history := await self.get(f"/history/{name}")):
            await asyncio.sleep(0.1)
        status = history[name]["status"]
        events.status, events.messages = status["status_str"], dict(status["messages"])
        events.outputs = history[name]["outputs"]
        return events

    async def download(self, file: Mapping[str, str]) -> bytes:
        content = await self.get("/view", filename=file["filename"], subfolder=file["subfolder"], type=file["type"])
        assert isinstance(content, bytes)
        return content


def write_clip(path: Path) -> None:
    """Some frames of the bundled clip, with a tone."""
    with av.open(ROOT / "data" / "clips" / "dog_walk.mp4") as source, av.open(path, "w") as target:
        video = target.add_stream("libx264", rate=RATE, options={"crf": "12"})
        video.width, video.height, video.pix_fmt = SIZE, SIZE, "yuv420p"
        sound = target.add_stream("aac", rate=SOUND_RATE, layout="mono")
        for index, frame in enumerate(source.decode(video=0)):
            if index == FRAMES:
                break
            target.mux(video.encode(av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")))
        target.mux(video.encode())
        times = np.arange(int(FRAMES / RATE * SOUND_RATE)) / SOUND_RATE
        tone = av.AudioFrame.from_ndarray(np.sin(times * 2 * np.pi * 440).astype(np.float32)[None] / 4, "fltp", "mono")
        tone.sample_rate = SOUND_RATE
        target.mux(sound.encode(tone))
        target.mux(sound.encode())


def write_loras(folder: Path) -> None:
    """Two LoRAs of random weights for the bundled model."""
    from diffusers import UNet2DConditionModel

    from tests.models.adapters.making import lora_weights, save_kohya

    unet = UNet2DConditionModel.from_pretrained(ROOT / "data" / "models" / "mini-sd" / "unet")
    for seed, name in enumerate(LORAS):
        save_kohya(folder / name, {"unet": lora_weights(SimpleNamespace(unet=unet), "unet", seed)}, alpha=0.1)


def prepared(folder: Path) -> Path:
    """A base folder for ComfyUI: the pack as a link, the bundled model, LoRAs for it, a clip, the examples' images."""
    base = folder / "ComfyUI – Prüfung mit Leerzeichen"
    for name in ("custom_nodes", "input", "models/diffusers", "models/checkpoints", "models/loras"):
        (base / name).mkdir(parents=True)
    (base / "custom_nodes" / "tokenflow").symlink_to(PACK, target_is_directory=True)
    (base / "models" / "diffusers" / "mini-sd").symlink_to(
        ROOT / "data" / "models" / "mini-sd", target_is_directory=True
    )
    write_clip(base / "input" / CLIP)
    for name in (KEYFRAME, REFERENCE):
        shutil.copy(INPUT / name, base / "input")
    write_loras(base / "models" / "loras")
    return base


@contextmanager
def process(checkout: Path, base: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "main.py", "--cpu", "--disable-api-nodes", "--listen", "127.0.0.1"]
    command += ["--port", str(port), "--base-directory", str(base)]
    log = base.parent / "comfyui.log"
    with log.open("wb") as output:
        started = subprocess.Popen(
            command, cwd=checkout, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONUTF8": "1"}
        )
        try:
            yield started
        except BaseException:
            print(log.read_text(encoding="utf-8", errors="replace")[-6000:], file=sys.stderr)
            raise
        finally:
            started.terminate()
            started.wait(30)


@asynccontextmanager
async def comfyui(checkout: Path, base: Path) -> AsyncIterator[ComfyUI]:
    port = free_port()
    with process(checkout, base, port) as started:
        async with aiohttp.ClientSession() as session:
            server = ComfyUI(session, f"http://127.0.0.1:{port}")
            await server.wait(started)
            yield server


def small(prompt: Prompt) -> Prompt:
    """The prompt of an example with the bundled models and few steps."""
    for node in prompt.values():
        node["inputs"] |= SMALL.get(node["class_type"], {})
    return prompt


def node_of(prompt: Prompt, kind: str) -> str:
    """The number of the node of a kind."""
    return next(number for number, node in prompt.items() if node["class_type"] == kind)


def changed(prompt: Prompt, kind: str, /, **values: Any) -> Prompt:
    """The prompt with other values of the node of a kind."""
    other = copy.deepcopy(prompt)
    other[node_of(other, kind)]["inputs"] |= values
    return other


def decoded(content: bytes) -> tuple[np.ndarray, Fraction, float]:
    """The frames of a video, f H W 3 uint8, its rate, and the loudness of its sound."""
    with av.open(BytesIO(content)) as container:
        rate = Fraction(container.streams.video[0].average_rate or 0)
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    with av.open(BytesIO(content)) as container:
        expect(container.streams.audio, "the video has no sound")
        sound = np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])
    return frames, rate, float(np.sqrt(np.mean(sound**2)))


def check_video(content: bytes, clip: np.ndarray) -> float:
    """Check frames, rate and sound; the mean difference from the clip in grey levels."""
    frames, rate, loudness = decoded(content)
    expect(frames.shape == clip.shape, f"expected frames of shape {clip.shape}, got {frames.shape}")
    expect(rate == RATE, f"expected {RATE} frames per second, got {rate}")
    expect(0.1 < loudness < 0.3, f"expected a tone of loudness 0.18, got {loudness:.3f}")
    return float(np.abs(frames.astype(float) - clip).mean())


async def check_what_is_served(server: ComfyUI) -> None:
    """Nodes, help pages, workflows and their images are where the page looks for them."""
    nodes = sorted(name for name in server.infos if name.startswith("Tokenflow"))
    helped = sorted(path.stem for path in (PACK / "web" / "docs").glob("*.md"))
    expect(nodes == helped, f"nodes {nodes} but help for {helped}")
    for name in nodes:
        await server.get(f"/extensions/tokenflow/docs/{name}.md")
    listed = (await server.get("/workflow_templates"))["tokenflow"]
    expect(sorted(listed) == [path.stem for path in EXAMPLES], f"workflows {listed} are listed")
    for name in listed:
        await server.get(f"/api/workflow_templates/tokenflow/{name}.jpg")
    print(f"{len(nodes)} nodes, {len(listed)} workflows, help and images are served")


async def check_examples(server: ComfyUI, clip: np.ndarray, out: Path | None) -> None:
    """Every example runs, and gives a video with the clip's frames, rate and sound."""
    for path in EXAMPLES:
        prompt = small(workflows.as_prompt(workflows.read(path), server.infos))
        began = time.monotonic()
        run = await server.run(prompt)
        expect(run.status == "success", f"{path.stem}: {json.dumps(run.messages.get('execution_error'))[:3000]}")
        content = await server.download(run.file(".mp4"))
        difference = check_video(content, clip)
        expect(difference > 1, f"{path.stem}: the video is the clip")
        edit = [number for number, node in prompt.items() if node["class_type"] == "TokenflowEdit"]
        if edit and "mode" not in prompt[edit[0]]["inputs"]:  # others may have nothing to sample
            expect(run.progress.get(edit[0]), f"{path.stem}: the edit reported no progress")
            expect(run.previews, f"{path.stem}: the edit sent no previews")
        if out is not None:
            (out / f"{path.stem}.mp4").write_bytes(content)
        print(f"{path.stem}: {difference:.1f} grey levels from the clip, {time.monotonic() - began:.0f} s")


async def check_cache(server: ComfyUI, prompt: Prompt, inversions: Path) -> None:
    """Another sentence inverts nothing; nor does the same clip under another name."""
    run = await server.run(changed(prompt, "TokenflowEdit", prompt="a fox on grass, 3d style"))
    expect(run.status == "success", "the second sentence failed")
    reused = {node_of(prompt, kind) for kind in ("TokenflowLoadModel", "TokenflowInvert")}
    expect(reused <= run.cached(), f"nodes {reused - run.cached()} ran again for another sentence")
    stored = sorted(inversions.iterdir())
    run = await server.run(changed(prompt, "LoadVideo", file="the same clip – kopiert.mp4"))
    expect(run.status == "success", "the copied clip failed")
    expect(node_of(prompt, "TokenflowInvert") not in run.cached(), "the copied clip was not opened")
    expect(sorted(inversions.iterdir()) == stored, "the copied clip was inverted again")
    print("another sentence, and the same clip under another name, invert nothing")


async def check_chained(server: ComfyUI, prompt: Prompt) -> None:
    """Two LoRAs one after the other are loaded once, and change the edit."""
    chained = copy.deepcopy(prompt)
    for number, (name, others) in enumerate(zip(LORAS, ({}, {"others": ["lora 0", 0]}), strict=True)):
        values = {"lora": name, "path": "", "scale": 1.0, "triggers": ""}
        chained[f"lora {number}"] = {"class_type": "TokenflowLoRA", "inputs": values | others}
    chained = changed(chained, "TokenflowLoadModel", loras=["lora 1", 0])
    run = await server.run(chained)
    expect(run.status == "success", f"LoRAs: {json.dumps(run.messages.get('execution_error'))[:3000]}")
    again = await server.run(chained)
    expect(set(chained) <= again.cached(), f"nodes {set(chained) - again.cached()} ran again unchanged")
    print("two chained LoRAs are loaded once")


async def check_deleted(server: ComfyUI, prompt: Prompt, inversions: Path) -> None:
    """An inversion that the user deletes is made again."""
    shutil.rmtree(inversions)
    run = await server.run(changed(prompt, "TokenflowEdit", seed=9))
    expect(run.status == "success", f"deleted: {json.dumps(run.messages.get('execution_error'))[:3000]}")
    expect(list(inversions.iterdir()), "it was not made again")
    again = await server.run(changed(prompt, "TokenflowEdit", seed=9))
    expect(node_of(prompt, "TokenflowEdit") in again.cached(), "the edit ran again unchanged")
    print("a deleted inversion is made again, once")


async def check_interrupt(server: ComfyUI, prompt: Prompt) -> None:
    """An interrupt ends a long edit at once, and the next run is not disturbed by it."""
    edit = node_of(prompt, "TokenflowEdit")
    run = await server.run(changed(prompt, "TokenflowEdit", steps=500, seed=7), interrupt_at=edit)
    expect("execution_interrupted" in run.messages, f"it ended with {list(run.messages)}")
    run = await server.run(changed(prompt, "TokenflowEdit", seed=8))
    expect(run.status == "success", "the run after an interrupt failed")
    print("an interrupt ends an edit, and the next one runs")


async def check_mistakes(server: ComfyUI, prompt: Prompt, keyframes: Prompt) -> None:
    """Mistakes are told on the node that they are of."""
    for kind in ("TokenflowInvert", "TokenflowEdit"):
        errors = await server.refused(changed(prompt, kind, prompt=" "))
        text = json.dumps(errors[node_of(prompt, kind)])
        expect("the prompt is empty" in text, f"an empty prompt gives {text}")
    mistakes = [
        (changed(keyframes, "TokenflowEditedKeyframes", frames="99"), "TokenflowEdit", "the clip has 8 frames"),
        (changed(keyframes, "TokenflowEditedKeyframes", frames="0, 1"), "TokenflowEditedKeyframes", "one frame number"),
        (changed(keyframes, "LoadImage", image="wide.png"), "TokenflowEdit", "but the clip is 128×128"),
        (
            changed(prompt, "TokenflowLoadModel", model="path or Hub id", path="/no/where"),
            "TokenflowLoadModel",
            "/no/where",
        ),
        (
            changed(prompt, "TokenflowEdit", keyframe_interval=9),
            "TokenflowEdit",
            "the clip has 8 frames; expected 1 to 8, or 0",
        ),
    ]
    for wrong, kind, expected in mistakes:
        run = await server.run(wrong)
        error = run.messages.get("execution_error", {})
        expect(error.get("node_type") == kind, f"expected an error of {kind}, got {json.dumps(error)[:2000]}")
        expect(expected in error["exception_message"], f"{kind} says {error['exception_message']!r}")
    print(f"{2 + len(mistakes)} mistakes are told on their nodes")


async def check(checkout: Path, folder: Path, out: Path | None) -> None:
    base = prepared(folder)
    content = (base / "input" / CLIP).read_bytes()
    clip, _, _ = decoded(content)
    (base / "input" / "the same clip – kopiert.mp4").write_bytes(content)
    av.VideoFrame.from_ndarray(np.repeat(clip[0], 2, axis=1), format="rgb24").to_image().save(
        base / "input" / "wide.png"
    )
    async with comfyui(checkout, base) as server:
        version = (await server.get("/system_stats"))["system"]["comfyui_version"]
        print(f"ComfyUI {version}")
        await check_what_is_served(server)
        await check_examples(server, clip, out)
        prompt, keyframes = (
            small(workflows.as_prompt(workflows.read(PACK / "example_workflows" / f"{name}.json"), server.infos))
            for name in ("edit_a_clip", "carry_an_edited_frame")
        )
        inversions = base / "temp" / "tokenflow" / "inversions"
        await check_cache(server, prompt, inversions)
        await check_chained(server, prompt)
        await check_deleted(server, prompt, inversions)
        await check_interrupt(server, prompt)
        await check_mistakes(server, prompt, keyframes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="of github.com/Comfy-Org/ComfyUI")
    parser.add_argument("--out", type=Path, help="a folder for the videos of the examples")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            asyncio.run(check(arguments.checkout.resolve(), Path(folder), arguments.out))
        except UnexpectedError as error:
            sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
