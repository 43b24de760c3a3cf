"""Builds the image without an image registry, starts it, and edits a clip with it; prints its size and the seconds.

    python -m tools.container --device cpu -- BUILD_OPTIONS

needs root, Debian's debootstrap, buildah and podman, and port 8000. What follows `--` goes to `buildah build`, such as
volumes with the configuration of pip. The image stays, as `localhost/tokenflow`.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx

SUITE = "bookworm"
BASE = "localhost/tokenflow-base"
IMAGE = "localhost/tokenflow"
CONTAINER = VOLUME = "tokenflow-trial"
ADDRESS = "http://127.0.0.1:8000"
CLIP = Path("data/clips/dog_walk.mp4")
WISH = {"prompt": "a tiger on grass, 3d style", "source_prompt": "a dog on grass, 3d style", "seconds": "0.5"}
PATIENCE = 1800.0


def run(*command: str) -> str:
    """The output of a command, whose errors go to the terminal."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def make_base() -> None:
    """An image with Debian and its Python, unless it is there."""
    if subprocess.run(["buildah", "inspect", BASE], capture_output=True).returncode == 0:
        return
    with tempfile.TemporaryDirectory() as folder:
        run("debootstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates", SUITE, folder)
        container = run("buildah", "from", "scratch").strip()
        run("buildah", "add", "--quiet", container, folder, "/")
        run("buildah", "commit", "--quiet", container, BASE)
        run("buildah", "rm", container)


def build(device: str, options: Sequence[str]) -> None:
    """The image of the Dockerfile."""
    arguments = ("--build-arg", f"BASE={BASE}", "--build-arg", f"DEVICE={device}")
    run("buildah", "build", "--isolation", "chroot", "--layers", "--tag", IMAGE, *arguments, *options, ".")


def seconds_until(condition: Callable[[], Any]) -> float:
    """How long a condition takes to be true."""
    begin = time.monotonic()
    while time.monotonic() - begin < PATIENCE:
        with suppress(httpx.HTTPError):
            if condition():
                return time.monotonic() - begin
        time.sleep(0.2)
    raise TimeoutError(f"not within {PATIENCE:g} s; see podman logs {CONTAINER}")


def edit(client: httpx.Client) -> tuple[dict[str, Any], float]:
    """A video that was edited over HTTP, and how long that took."""
    with CLIP.open("rb") as file:
        answer = client.post("/v1/videos", files={"video": file}, data=WISH).raise_for_status()
    path = f"/v1/videos/{answer.json()['id']}"
    seconds = seconds_until(lambda: client.get(path).json()["status"] not in ("queued", "in_progress"))
    client.get(f"{path}/content").raise_for_status()
    return client.get(path).json(), seconds


def try_out(podman: Sequence[str]) -> None:
    """Start the image and edit a clip."""
    start = (*podman, "run", "--network", "host", "--ulimit", "host", "--volume", f"{VOLUME}:/data")
    key = run(*start, "--rm", IMAGE, "keys", "create", "trial", "--credits", "1000", "--data", "/data").split()[-1]
    client = httpx.Client(base_url=ADDRESS, headers={"authorization": f"Bearer {key}"}, timeout=120)
    try:
        run(*start, "--detach", "--name", CONTAINER, IMAGE)
        ready = seconds_until(lambda: client.get("/readyz").status_code == 200)
        user = run(*podman, "exec", CONTAINER, "id", "--user").strip()
        video, seconds = edit(client)
        run(*podman, "exec", CONTAINER, "sh", "-c", "! touch /opt/tokenflow/written 2> /dev/null")
    finally:
        subprocess.run([*podman, "rm", "--force", "--volumes", CONTAINER], stdout=subprocess.DEVNULL)
        subprocess.run([*podman, "volume", "rm", "--force", VOLUME], stdout=subprocess.DEVNULL)
    size = int(run(*podman, "image", "inspect", "--format", "{{.Size}}", IMAGE))
    print(f"size: {size / 1e9:.2f} GB")
    print(f"user: {user}")
    print(f"ready after: {ready:.0f} s")
    print(f"{video['status']}: {video['frames']} frames of {video['size']} after {seconds:.0f} s")


def main() -> None:
    """The command."""
    arguments = sys.argv[1:]
    ours, theirs = arguments, []
    if "--" in arguments:
        ours, theirs = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--podman", default="podman", help="with options of its own, such as 'podman --runtime runc'")
    options = parser.parse_args(ours)
    make_base()
    build(options.device, theirs)
    try_out(options.podman.split())


if __name__ == "__main__":
    main()
