"""The official client of the form that this interface follows."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fastapi import FastAPI
from openai import APIStatusError, AuthenticationError, OpenAI

from tests.apps.server.fixtures import Drain, listening

pytestmark = pytest.mark.serve


def test_the_openai_client_creates_retrieves_and_downloads(
    app: FastAPI, key: str, clip: Path, drain: Drain, tmp_path: Path
) -> None:
    with listening(app) as address:
        client = OpenAI(api_key=key, base_url=f"{address}/v1", max_retries=0)
        video = client.videos.create(prompt="a tiger", input_reference=clip, model="standard", size="24x16")  # type: ignore[arg-type, call-overload]
        assert (video.status, video.progress, video.size) == ("queued", 0, "24x16")
        drain()
        video = client.videos.retrieve(video.id)
        assert (video.status, video.progress, video.error) == ("completed", 100, None)
        client.videos.download_content(video.id).write_to_file(tmp_path / "edited.mp4")
        assert (tmp_path / "edited.mp4").read_bytes()[4:8] == b"ftyp"

        with_more = client.videos.create(
            prompt="a cat",
            input_reference=clip,
            seconds="4",
            extra_body={"source_prompt": "a dog", "settings": '{"edit": {"steps": 1}}'},
        )
        remixed = client.videos.remix(video.id, prompt="a golden cat")
        assert remixed.remixed_from_video_id == video.id
        assert {each.id for each in client.videos.list()} == {video.id, with_more.id, remixed.id}
        finished = threading.Thread(target=drain)
        finished.start()
        assert client.videos.poll(with_more.id, poll_interval_ms=100).status == "completed"
        finished.join()
        assert client.videos.delete(video.id).deleted
        assert [model.id for model in client.models.list()] == ["standard", "small"]

        with pytest.raises(APIStatusError) as refused:
            client.videos.create(prompt="a cat", input_reference=clip, model="sora-2")
        assert refused.value.type == "invalid_request"
        with pytest.raises(AuthenticationError):
            OpenAI(api_key="tf_a_b", base_url=f"{address}/v1").videos.list()


def test_the_client_of_the_documentation_edits_a_clip(
    app: FastAPI, key: str, clip: Path, drain: Drain, tmp_path: Path
) -> None:
    text = (Path(__file__).parents[3] / "docs" / "service.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    assert len(code.splitlines()) <= 22
    (tmp_path / "client.py").write_text(code)
    with listening(app) as address:
        command = [sys.executable, tmp_path / "client.py", address, key, clip, "a tiger", tmp_path / "tiger.mp4"]
        client = subprocess.Popen(command)
        while client.poll() is None:
            drain()
            time.sleep(0.1)
    assert client.returncode == 0
    assert (tmp_path / "tiger.mp4").read_bytes()[4:8] == b"ftyp"
