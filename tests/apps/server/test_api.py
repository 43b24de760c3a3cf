"""The interface: what is accepted, what is answered, and what is refused and how."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from httpx import Response
from PIL import Image
from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from tests.apps.server.fixtures import POOL, Drain, Submit, with_key
from tokenflow.apps.server import expiry, feed, pool, uploads, videos
from tokenflow.apps.server.callers import Caller
from tokenflow.apps.server.database import Database
from tokenflow.apps.server.expiry import expire
from tokenflow.apps.server.feed import Feed
from tokenflow.apps.server.folders import Folders
from tokenflow.apps.server.keys import create_key
from tokenflow.apps.server.lifecycle import MAX_ATTEMPTS, claim, report
from tokenflow.apps.server.pool import Queue
from tokenflow.apps.server.pools import living, note_ready
from tokenflow.apps.server.settings import ServerSettings
from tokenflow.apps.server.submission import Submissions
from tokenflow.apps.server.tables import Event, Key, Video
from tokenflow.batch.worker import JobResult, Worker
from tokenflow.config import Config
from tokenflow.events import Notice, Preview, Progress
from tokenflow.video import probe

pytestmark = pytest.mark.serve


def events(database: Database, video_id: str) -> list[Event]:
    with database.read() as session:
        return list(session.scalars(select(Event).where(Event.video_id == video_id).order_by(Event.id)))


def credits(client: TestClient) -> tuple[int, int, int]:
    """Left, held and spent."""
    usage = client.get("/v1/usage").json()
    return usage["credits"], usage["held"], usage["spent"]


def refused(answer: Response) -> tuple[int, str, str | None]:
    """Status, message and field of an answer that is an error of the common form."""
    error = answer.json()["error"]
    assert error["type"] == error["code"]
    return answer.status_code, error["message"], error["param"]


def test_a_clip_is_edited_and_fetched_in_ranges(
    client: TestClient, submit: Submit, drain: Drain, folders: Folders, model: str, tmp_path: Path
) -> None:
    accepted = submit(seed="3", mode="sdedit")
    assert accepted.status_code == 202
    video = accepted.json()
    assert (video["status"], video["queue_position"], video["progress"]) == ("queued", 1, 0)
    assert (video["size"], video["frames"], video["seconds"], video["price"]) == ("24x16", 4, "0.4", 8)
    address = f"/v1/videos/{video['id']}"
    assert refused(client.get(f"{address}/content"))[:2] == (
        409,
        "the video is queued; only completed ones have a result",
    )
    assert credits(client) == (992, 8, 0)
    drain()
    video = client.get(address).json()
    assert (video["status"], video["progress"], video["error"]) == ("completed", 100, None)
    assert video["expires_at"] == pytest.approx(video["completed_at"] + 24 * 3600, abs=2)
    assert credits(client) == (992, 0, 8)

    whole = client.get(f"{address}/content")
    assert whole.headers["content-type"] == "video/mp4"
    (tmp_path / "edited.mp4").write_bytes(whole.content)
    assert (probe(tmp_path / "edited.mp4").width, probe(tmp_path / "edited.mp4").height) == (24, 16)
    part = client.get(f"{address}/content", headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    beyond = client.get(f"{address}/content", headers={"range": "bytes=9999999-"})
    assert refused(beyond) == (416, "the clip has fewer bytes than that", "Range")
    assert beyond.headers["content-range"] == f"bytes */{len(whole.content)}"
    malformed = client.get(f"{address}/content", headers={"range": "lines=1-2"})
    assert refused(malformed)[:2] == (400, "the header Range is malformed; expected bytes=0-499")
    etag = whole.headers["etag"]
    for known in (etag, f"W/{etag}", f'"another", {etag}', "*"):
        unchanged = client.get(f"{address}/content", headers={"if-none-match": known})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert client.get(f"{address}/content", headers={"if-none-match": f"x{etag}x"}).status_code == 200
    head = client.head(f"{address}/content")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(whole.content)))

    for form in ("json", "html"):
        text = client.get(f"{address}/report", params={"format": form}).text
        assert str(folders.root) not in text
        assert model not in text
    settings = client.get(f"{address}/report").json()["settings"]
    assert (settings["edit"]["seed"], settings["edit"]["mode"]) == (3, "sdedit")
    assert "<html" in client.get(f"{address}/report", params={"format": "html"}).text


def test_a_remix_is_made_on_the_same_inversion(
    client: TestClient, submit: Submit, drain: Drain, database: Database, folders: Folders
) -> None:
    first = submit().json()
    drain()
    remixed = client.post(f"/v1/videos/{first['id']}/remix", json={"prompt": "a cat", "seed": 5})
    assert remixed.status_code == 202
    remix = remixed.json()
    assert (remix["remixed_from_video_id"], remix["prompt"]) == (first["id"], "a cat")
    drain()
    assert client.get(f"/v1/videos/{remix['id']}").json()["status"] == "completed"
    stages = {each.data["stage"] for each in events(database, remix["id"]) if each.kind == "progress"}
    assert "edit" in stages
    assert not stages & {"read", "encode", "invert"}
    assert "invert" in {each.data.get("stage") for each in events(database, first["id"])}
    content = [client.get(f"/v1/videos/{each['id']}/content").content for each in (first, remix)]
    assert content[0] != content[1]

    assert client.delete(f"/v1/videos/{first['id']}").json() == {
        "id": first["id"],
        "object": "video.deleted",
        "deleted": True,
    }
    assert client.get(f"/v1/videos/{first['id']}").status_code == 404
    again = client.post(f"/v1/videos/{remix['id']}/remix", json={"prompt": "a dog"}).json()
    drain()
    assert client.get(f"/v1/videos/{again['id']}").json()["status"] == "completed"
    for each in (remix, again):
        client.delete(f"/v1/videos/{each['id']}")
    assert not list(folders.families.iterdir())
    assert not list(folders.results.iterdir())
    assert refused(client.post(f"/v1/videos/{again['id']}/remix", json={"prompt": "a dog"}))[0] == 404


def test_a_repeated_request_gives_the_video_of_the_first(
    client: TestClient, submit: Submit, database: Database
) -> None:
    key = {"idempotency-key": "one"}
    first, second = submit(key).json(), submit(key).json()
    assert first["id"] == second["id"]
    assert credits(client) == (992, 8, 0)
    status, message, _ = refused(submit(key, prompt="a cat"))
    assert (status, message) == (409, "this Idempotency-Key was used for another request; use a new one")
    other = with_key(client, create_key(database, "bob", 10, None))
    assert submit(key | other).json()["id"] != first["id"]
    remix = f"/v1/videos/{first['id']}/remix"
    ids = {client.post(remix, json={"prompt": "x"}, headers={"idempotency-key": "two"}).json()["id"] for _ in range(2)}
    assert len(ids) == 1


def test_a_dry_run_says_what_it_takes_and_takes_nothing(client: TestClient, submit: Submit, drain: Drain) -> None:
    quote = submit(params={"dry_run": "true"})
    assert quote.status_code == 200
    assert quote.json() == {
        "object": "video.quote",
        "model": "standard",
        "price": 8,
        "frames": 4,
        "size": "24x16",
        "seconds_to_make": None,
        "memory_mb": None,
    }
    submit()
    drain()
    measured = submit(params={"dry_run": "true"}, seconds="0.2").json()
    assert (measured["frames"], measured["price"]) == (2, 4)
    assert measured["seconds_to_make"] >= 0
    assert measured["memory_mb"] > 0
    assert len(client.get("/v1/videos").json()["data"]) == 1


def test_videos_are_listed_in_pages_and_belong_to_their_key(
    client: TestClient, submit: Submit, database: Database
) -> None:
    ids = [submit().json()["id"] for _ in range(3)]
    page = client.get("/v1/videos", params={"limit": 2}).json()
    assert [each["id"] for each in page["data"]] == [ids[2], ids[1]]
    assert page["has_more"]
    rest = client.get("/v1/videos", params={"after": page["last_id"]}).json()
    assert [each["id"] for each in rest["data"]] == [ids[0]]
    assert not rest["has_more"]
    oldest = client.get("/v1/videos", params={"order": "asc", "after": ids[0]}).json()
    assert [each["id"] for each in oldest["data"]] == ids[1:]
    other = with_key(client, create_key(database, "bob", 10, None))
    assert client.get("/v1/videos", headers=other).json()["data"] == []
    for method, tail in (("get", ""), ("get", "/events"), ("get", "/content"), ("post", "/cancel"), ("delete", "")):
        assert client.request(method, f"/v1/videos/{ids[0]}{tail}", headers=other).status_code == 404


def test_cancelling_gives_the_credits_back(client: TestClient, submit: Submit, drain: Drain) -> None:
    video = submit().json()
    address = f"/v1/videos/{video['id']}"
    assert refused(client.delete(address))[0] == 409
    assert client.post(f"{address}/cancel").json()["status"] == "cancelled"
    assert client.post(f"{address}/cancel").json()["status"] == "cancelled"
    assert credits(client) == (1000, 0, 0)
    drain()
    assert client.get(address).json()["status"] == "cancelled"
    assert client.delete(address).status_code == 200


def test_a_running_video_is_stopped_by_its_worker(
    client: TestClient, submit: Submit, drain: Drain, queue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = submit().json()
    address = f"/v1/videos/{video['id']}"
    monkeypatch.setattr(
        queue, "on_start", lambda job, worker: client.post(f"{address}/cancel").json()["status"] == "in_progress"
    )
    drain()
    assert client.get(address).json()["status"] == "cancelled"
    assert credits(client) == (1000, 0, 0)


def test_a_failure_has_a_type_and_gives_the_credits_back(
    client: TestClient, submit: Submit, drain: Drain, database: Database, folders: Folders
) -> None:
    damaged, missing = submit().json()["id"], submit(seed="1").json()["id"]
    with database.read() as session:
        files = [folders.family(session.get_one(Video, each).family) / "clip.mp4" for each in (damaged, missing)]
    files[0].write_bytes(b"no clip")
    files[1].unlink()
    drain()
    failed = [client.get(f"/v1/videos/{each}").json() for each in (damaged, missing)]
    assert [each["status"] for each in failed] == ["failed"] * 2
    assert [each["error"]["code"] for each in failed] == ["invalid_input", "internal_error"]
    assert failed[1]["error"]["message"] == "an internal error; the operator will find it in the log"
    assert str(folders.root) not in str(failed)
    assert credits(client) == (1000, 0, 0)


def test_a_failure_of_the_model_is_the_operators(client: TestClient, submit: Submit, queue: Queue, model: str) -> None:
    video = submit().json()
    job = queue.take()
    assert job is not None
    queue.on_finish(job, 0, JobResult(reason=f"{model} has no unet", error="ModelError"))
    assert client.get(f"/v1/videos/{video['id']}").json()["error"]["code"] == "internal_error"
    video = submit().json()
    job = queue.take()
    assert job is not None
    queue.on_finish(job, 0, JobResult(reason="its worker died each time"))
    assert client.get(f"/v1/videos/{video['id']}").json()["error"]["code"] == "worker_died"


def test_a_video_that_ends_its_pool_each_time_fails_and_others_are_made(
    client: TestClient, submit: Submit, queue: Queue, database: Database
) -> None:
    video = submit().json()
    for _ in range(MAX_ATTEMPTS):
        assert queue.take() is not None
        queue.put_back(POOL)
    shown = client.get(f"/v1/videos/{video['id']}").json()
    assert (shown["status"], shown["error"]["code"]) == ("failed", "internal_error")
    assert credits(client) == (1000, 0, 0)
    assert queue.take() is None

    unreadable, without_report = submit(seed="1").json(), submit(seed="2").json()
    with database.write() as session:
        session.get_one(Video, unreadable["id"]).config = {"nonsense": 1}
    assert queue.take() is None
    job = queue.take()
    assert job is not None
    queue.on_finish(job, 0, JobResult())
    for each in (unreadable, without_report):
        assert client.get(f"/v1/videos/{each['id']}").json()["error"]["code"] == "internal_error"


def test_what_goes_wrong_with_an_event_fails_that_video_alone(
    client: TestClient, submit: Submit, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown_as = pool._preview
    broken: list[Preview] = []

    def preview(event: Preview) -> dict[str, object]:
        if not broken:
            broken.append(event)
            raise ValueError("nothing to show")
        return shown_as(event)

    monkeypatch.setattr(pool, "_preview", preview)
    first, second = submit().json()["id"], submit(seed="1").json()["id"]
    drain()
    shown = client.get(f"/v1/videos/{first}").json()
    assert (shown["status"], shown["error"]["code"]) == ("failed", "internal_error")
    assert client.get(f"/v1/videos/{second}").json()["status"] == "completed"
    assert credits(client) == (992, 0, 8)


def test_a_database_that_is_away_ends_the_pool_and_fails_no_video(
    client: TestClient, submit: Submit, queue: Queue, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> None:
        raise OperationalError("UPDATE", {}, ConnectionError("gone"))

    video = submit().json()["id"]
    job = queue.take()
    assert job is not None
    with monkeypatch.context() as patched:
        patched.setattr(database, "write", away)
        with pytest.raises(OperationalError):
            queue.on_event(job, 0, Notice("careful"))
    queue.put_back(POOL)
    assert client.get(f"/v1/videos/{video}").json()["status"] == "queued"


def test_a_video_that_waits_tells_how_long_it_will(
    client: TestClient, submit: Submit, queue: Queue, drain: Drain
) -> None:
    submit()
    drain()
    ids = [submit(seed=str(number)).json()["id"] for number in range(2)]
    assert [client.get(f"/v1/videos/{each}").json()["seconds_left"] for each in ids] == [None, None]
    assert queue.take() is not None
    running, waiting = (client.get(f"/v1/videos/{each}").json() for each in ids)
    assert (running["status"], running["seconds_left"]) == ("in_progress", None)
    assert waiting["seconds_left"] > 0


def test_progress_counts_as_getting_further_and_never_goes_back(
    client: TestClient, submit: Submit, queue: Queue, database: Database
) -> None:
    video = submit().json()
    for number in range(MAX_ATTEMPTS):
        assert queue.take() is not None
        with database.write() as session:
            report(session, video["id"], number + 1, "edit", 7.0)
            report(session, video["id"], 0, "edit", 8.0)
        queue.put_back(POOL)
    shown = client.get(f"/v1/videos/{video['id']}").json()
    assert (shown["status"], shown["progress"], shown["seconds_left"]) == ("queued", MAX_ATTEMPTS, None)
    reported = [each.data["progress"] for each in events(database, video["id"]) if each.kind == "progress"]
    assert reported == sorted(reported)


@pytest.mark.parametrize(
    ("fields", "status", "param", "message"),
    [
        ({"prompt": ""}, 422, "prompt", ""),
        ({"prompt": "x" * 2001}, 422, "prompt", "at most 2000"),
        ({"model": "/etc/passwd"}, 422, "model", "expected one of standard, small, got '/etc/passwd'"),
        ({"mode": "keyframes"}, 422, "mode", "expected one of pnp, sdedit"),
        ({"mode": "magic"}, 422, "mode", ""),
        ({"preset": "slow"}, 422, "preset", ""),
        ({"size": "big"}, 422, "size", ""),
        ({"size": "4096x4096"}, 413, None, "expected at most 1048576 pixels to work at"),
        ({"seed": "-1"}, 422, "seed", ""),
        ({"seconds": "0"}, 422, "seconds", ""),
        ({"settings": "{"}, 422, "settings", "expected JSON"),
        ({"settings": '{"model": {}}'}, 422, "settings", "model cannot be set by clients; allowed: edit, clip"),
        ({"settings": r'{"edit": {"negative_prompt": "\ud800"}}'}, 422, "settings", "Unicode without NUL"),
        ({"settings": r'{"edit": {"regions": [{"prompt": "\u0000"}]}}'}, 422, "settings", "Unicode without NUL"),
        ({"settings": '{"clip": {"start": 1e999}}'}, 422, "settings", "finite"),
        ({"preset": "fast"}, 422, "preset", "expected standard, which this model has, got 'fast'"),
        ({"settings": "[" * 9000}, 422, "settings", "expected JSON"),
        (
            {"settings": '{"model": {"path": "/etc"}}'},
            422,
            "settings",
            "model cannot be set by clients",
        ),
        (
            {"settings": '{"edit": {"controlnet": {"path": "/etc"}}}'},
            422,
            "settings",
            "controlnet.path cannot be set",
        ),
        (
            {"settings": '{"edit": {"keyframes": {"frames": "/etc"}}}'},
            422,
            "settings",
            "keyframes.frames cannot be set",
        ),
        (
            {"settings": '{"edit": {"regions": [{"mask": "/etc"}]}}'},
            422,
            "settings",
            "regions.0.mask cannot be set",
        ),
        ({"settings": '{"output": {"dir": "/tmp"}}'}, 422, "settings", "output cannot be set"),
        ({"settings": '{"edit": {"batch_size": 4096}}'}, 422, "settings", "edit.batch_size cannot be set"),
        ({"settings": '{"edit": {"steps": 1000}}'}, 422, "settings", "edit.steps: expected at most 50, got 1000"),
        ({"settings": '{"edit": {"guidance_scale": "much"}}'}, 422, "settings", "edit.guidance_scale"),
        ({"settings": '{"edit": {"keyframe_interval": 99}}'}, 422, None, "keyframe_interval is 99 but the clip has 4"),
        ({"settings": '{"edit": {"regions": [{"words": "cat"}]}}'}, 422, None, "cat"),
        *(
            ({"webhook_url": url}, 422, "webhook_url", "webhook_url")
            for url in ("http://[", "http://example.com/\x01", "http://example.com:65536/", "http://999.1.1.1/")
        ),
        ({"webhook_url": "file:///etc/passwd"}, 422, "webhook_url", "should match pattern"),
        ({"colour": "red"}, 422, "colour", "expected only the fields"),
        ({"model": "small"}, 413, None, "the clip has more than 3 frames"),
    ],
)
def test_what_cannot_be_made_is_refused_before_it_is_accepted(
    fields: dict[str, str],
    status: int,
    param: str | None,
    message: str,
    client: TestClient,
    submit: Submit,
    folders: Folders,
) -> None:
    found = refused(submit(**fields))
    assert (found[0], found[2]) == (status, param)
    assert message in found[1]
    assert credits(client) == (1000, 0, 0)
    assert not list(folders.incoming.iterdir())
    assert not list(folders.families.iterdir())


def test_settings_are_taken_literally_and_masks_and_frames_are_uploaded(
    client: TestClient, submit: Submit, clip: Path, database: Database
) -> None:
    reference = "${oc.env:HOME}"
    mask = {"video": ("a.MP4", clip.read_bytes()), "mask": ("../../mask.mp4", clip.read_bytes())}
    made = submit(files=mask, prompt=reference, settings=json.dumps({"edit": {"negative_prompt": reference}}))
    with database.read() as session:
        config = session.get_one(Video, made.json()["id"]).config
    assert (config["edit"]["prompt"], config["edit"]["negative_prompt"]) == (reference, reference)
    folder = Path(config["clip"]["path"]).parent
    assert [path.name for path in sorted(folder.iterdir())] == ["clip.mp4", "mask.mp4"]
    assert config["edit"]["regions"][0]["mask"] == str(folder / "mask.mp4")


def test_references_are_uploaded(
    client: TestClient, submit: Submit, clip: Path, tmp_path: Path, database: Database, drain: Drain
) -> None:
    Image.new("RGB", (16, 16), "orange").save(tmp_path / "tiger.png")
    image = ("../tiger.PNG", (tmp_path / "tiger.png").read_bytes())
    files = [("video", ("a.mp4", clip.read_bytes())), ("references[]", image), ("references[]", image)]
    sections = [{"kind": "style", "weight": 0.5}, {}]
    made = submit(files=files, settings=json.dumps({"edit": {"references": sections}})).json()
    with database.read() as session:
        config = Config.model_validate(session.get_one(Video, made["id"]).config)
    assert [each.path.name for each in config.edit.references] == ["reference_0.png", "reference_1.png"]
    assert [(each.kind, each.weight) for each in config.edit.references] == [("style", 0.5), ("identity", 1.0)]
    assert all(each.path.is_file() for each in config.edit.references)
    drain()
    assert client.get(f"/v1/videos/{made['id']}").json()["status"] == "completed"
    few = submit(files=files, settings='{"edit": {"references": [{}]}}')
    assert refused(few) == (
        422,
        "settings: edit.references: expected as many sections as images in references[], 2; got 1",
        "settings",
    )
    damaged = [files[0], ("references[]", ("tiger.png", b"no image"))]
    assert refused(submit(files=damaged))[0] == 422


def test_a_body_that_is_no_json_names_no_field(client: TestClient) -> None:
    answer = client.post("/v1/videos/abc/remix", content=b"{", headers={"content-type": "application/json"})
    assert (refused(answer)[0], refused(answer)[2]) == (422, None)


@pytest.mark.parametrize(
    ("name", "kind", "data", "status", "message"),
    [
        ("clip.exe", "application/octet-stream", b"MZ", 415, "expected a file named"),
        ("clip", "text/plain", b"text", 415, "expected a file named"),
        ("clip.mp4", "video/mp4", b"no video at all", 422, "clip.mp4"),
        ("clip.mp4", "video/mp4", b"ffconcat version 1.0\nfile /etc/passwd\n", 422, "clip.mp4"),
        (
            "clip.mp4",
            "video/mp4",
            b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n",
            422,
            "clip.mp4",
        ),
    ],
)
def test_what_is_no_clip_is_refused(
    name: str, kind: str, data: bytes, status: int, message: str, submit: Submit
) -> None:
    found = refused(submit(files={"video": (name, data, kind)}))
    assert found[0] == status
    assert message in found[1]
    assert "root:" not in found[1]


def test_files_that_are_too_large_are_refused(client: TestClient, submit: Submit) -> None:
    large = {"video": ("clip.mp4", bytes(20_000), "video/mp4")}
    assert refused(submit(files=large, model="small")) == (413, "video: expected at most 0.01 MB", "video")
    answer = client.post("/v1/videos", content=b"", headers={"content-length": str(10**12)})
    assert refused(answer)[0] == 413


def test_a_body_that_does_not_say_how_long_it_is_ends_at_the_limit(client: TestClient) -> None:
    def body() -> Any:
        yield b'{"prompt": "'
        for _ in range(40):
            yield b"x" * 100_000

    answer = client.post("/v1/videos/abc/remix", content=body(), headers={"content-type": "application/json"})
    assert refused(answer)[0] == 413


def test_credits_and_rates_run_out(client: TestClient, submit: Submit, database: Database) -> None:
    poor = with_key(client, create_key(database, "poor", 7, None))
    status, message, _ = refused(submit(poor))
    assert (status, message) == (402, "this edit takes 8 credits, more than are left; see /v1/usage")
    quick = with_key(client, create_key(database, "quick", 100, "2/min"))
    assert [submit(quick).status_code for _ in range(3)] == [202, 202, 429]
    limited = submit(quick)
    assert 0 < int(limited.headers["retry-after"]) <= 60
    assert refused(limited)[1] == "more than 2/min submissions; try again later"
    assert submit().status_code == 202


@pytest.fixture
def content(content: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    return content | getattr(request, "param", {})


@pytest.mark.parametrize("content", [{"waiting": 2}], indirect=True)
def test_a_key_may_have_so_many_unfinished_videos(client: TestClient, submit: Submit, drain: Drain) -> None:
    assert [submit().status_code for _ in range(3)] == [202, 202, 429]
    drain()
    assert submit().status_code == 202


def test_results_expire(client: TestClient, submit: Submit, drain: Drain, database: Database, folders: Folders) -> None:
    video = submit().json()
    drain()
    expire(database, folders, 3600)
    address = f"/v1/videos/{video['id']}"
    assert client.get(f"{address}/content").status_code == 200
    with database.write() as session:
        session.get_one(Video, video["id"]).expires_at = 1.0
    expire(database, folders, 3600)
    assert client.get(address).json()["status"] == "completed"
    assert refused(client.get(f"{address}/content"))[:2] == (404, "the result has expired and was deleted")
    assert refused(client.post(f"{address}/remix", json={"prompt": "x"}))[0] == 409
    assert not list(folders.families.iterdir())
    assert credits(client) == (992, 0, 8)


def test_files_are_deleted_once_that_is_stored_and_what_a_kill_left_is_deleted_later(
    client: TestClient,
    submit: Submit,
    drain: Drain,
    database: Database,
    folders: Folders,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    video = submit().json()
    drain()

    def be_killed(*_: object) -> None:
        with database.read() as session:
            assert session.get_one(Video, video["id"]).deleted_at is not None
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Folders, "delete", be_killed)
        with pytest.raises(KeyboardInterrupt):
            videos.delete_video(client.app.state.service, caller(database), video["id"])  # type: ignore[attr-defined]
    assert list(folders.results.iterdir())
    monkeypatch.setattr(expiry, "ABANDONED", -60.0)
    expire(database, folders, 3600)
    assert not [*folders.results.iterdir(), *folders.families.iterdir()]


def caller(database: Database) -> Caller:
    with database.read() as session:
        key = session.scalars(select(Key)).one()
    return Caller(f"key:{key.id}", key.id, key.name, None, ("standard",), 10)


def test_what_has_no_room_is_refused_before_its_files_are_looked_at(
    client: TestClient, submit: Submit, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = submit({"idempotency-key": "one"}).json()
    with database.write() as session:
        session.scalars(select(Key)).one().credits = 0
    assert submit({"idempotency-key": "one"}).json()["id"] == first["id"]
    monkeypatch.setattr(uploads, "store", None)
    assert refused(submit())[:2] == (402, "no credits are left; see /v1/usage")


@pytest.mark.parametrize("content", [{"waiting": 1}], indirect=True)
def test_a_repeated_request_that_comes_at_the_same_time_gives_the_video_of_the_first(
    client: TestClient, submit: Submit, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = submit({"idempotency-key": "one"}).json()
    for each in ("_earlier", "_check_room"):  # as if the first had not been stored yet
        monkeypatch.setattr(Submissions, each, lambda *_: None)
    assert submit({"idempotency-key": "one"}).json()["id"] == first["id"]
    assert len(list(folders.families.iterdir())) == 1
    assert credits(client) == (992, 8, 0)


def test_proxies_are_addresses_and_networks(content: dict[str, Any]) -> None:
    for proxies in (["10.0.0.0/8", "::1"], []):
        ServerSettings.model_validate(content | {"proxies": proxies})
    with pytest.raises(ValidationError, match=r"proxy\.local"):
        ServerSettings.model_validate(content | {"proxies": ["proxy.local"]})


def test_models_have_their_sizes_and_prices(client: TestClient) -> None:
    standard, small = client.get("/v1/models").json()["data"]
    assert (standard["id"], standard["steps"], standard["credits"], standard["size"]) == ("standard", 2, 5000, 16)
    assert small["limits"]["frames"] == 3


def test_it_is_ready_once_there_are_workers(client: TestClient, folders: Folders) -> None:
    assert refused(client.get("/readyz")) == (503, "no workers are running yet", None)
    with living(folders.pools, "pool"):
        assert client.get("/readyz").status_code == 503
        note_ready(folders.pools, "pool")
        assert client.get("/readyz").json() == {"status": "ok"}
    assert client.get("/readyz").status_code == 503


def test_figures_are_for_prometheus(client: TestClient, submit: Submit, drain: Drain) -> None:
    submit()
    drain()
    submit()
    text = client.get("/metrics").text
    assert 'tokenflow_videos{model="standard",status="completed"} 1.0' in text
    assert 'tokenflow_videos{model="standard",status="queued"} 1.0' in text
    assert "tokenflow_credits_spent 8.0" in text
    assert "tokenflow_credits_left 984.0" in text
    assert 'tokenflow_request_seconds_count{method="POST",route="/v1/videos",status="202"} 2.0' in text


def test_logs_have_no_prompts(submit: Submit, drain: Drain, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    submit(prompt="a secret wish", source_prompt="a secret place")
    drain()
    assert "accepted video_" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("content", [{"log_prompts": True}], indirect=True)
def test_logs_have_prompts_if_asked(submit: Submit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    submit(prompt="a secret wish")
    assert "a secret wish" in caplog.text


def test_a_fault_is_answered_in_the_common_form_and_counted(
    client: TestClient, submit: Submit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("of the test")

    monkeypatch.setattr(Submissions, "submit", fail)
    assert refused(submit(prompt="a secret wish"))[:2] == (
        500,
        "an internal error; the operator will find it in the log",
    )
    assert "ZeroDivisionError" in caplog.text
    assert "secret" not in caplog.text
    assert 'method="POST",route="/v1/videos",status="500"' in client.get("/metrics").text


def lines(text: str) -> list[tuple[int, str, Any]]:
    """The events of a stream: id, kind and data."""
    parsed = []
    for block in text.replace("\r\n", "\n").strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        parsed.append((int(fields["id"]), fields["event"], json.loads(fields["data"])))
    return parsed


def test_events_stream_until_the_end_and_go_on_after_the_last_one_received(
    client: TestClient, submit: Submit, drain: Drain
) -> None:
    video = submit().json()
    drain()
    address = f"/v1/videos/{video['id']}/events"
    answer = client.get(address)
    assert answer.headers["content-type"].startswith("text/event-stream")
    received = lines(answer.text)
    assert [each[2]["status"] for each in received if each[1] == "state"] == ["queued", "in_progress", "completed"]
    progress = [each[2]["progress"] for each in received if each[1] == "progress"]
    assert progress == sorted(progress)
    previews = [each[2] for each in received if each[1] == "preview"]
    assert len(previews) == 2
    assert previews[0]["image"].startswith("data:image/jpeg;base64,")
    middle = received[len(received) // 2][0]
    rest = lines(client.get(address, headers={"last-event-id": str(middle)}).text)
    assert rest == [each for each in received if each[0] > middle]


def test_a_stream_has_an_end_after_the_last_event_and_without_any(
    client: TestClient, submit: Submit, drain: Drain, database: Database, folders: Folders
) -> None:
    video = submit().json()["id"]
    drain()
    address = f"/v1/videos/{video}/events"
    last = events(database, video)[-1].id
    assert client.get(address, headers={"last-event-id": str(last)}).status_code == 204

    async def received() -> int:
        return len([event async for event in Feed(database).stream(video, last)])

    assert asyncio.run(asyncio.wait_for(received(), 20)) == 0
    with database.write() as session:
        session.get_one(Video, video).expires_at = 1.0
    expire(database, folders, 3600)
    assert client.get(address).status_code == 204


def test_the_stream_of_a_video_that_is_deleted_ends(
    client: TestClient, submit: Submit, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "RECHECK", 0.05)
    video = submit().json()["id"]

    async def received() -> list[str]:
        kinds = []
        async for event in Feed(database).stream(video, 0):
            kinds.append(str(event.event))
            await asyncio.to_thread(client.post, f"/v1/videos/{video}/cancel")
            await asyncio.to_thread(client.delete, f"/v1/videos/{video}")
        return kinds

    assert asyncio.run(asyncio.wait_for(received(), 20)) == ["state"]


def test_a_video_in_the_making_shows_its_stage(client: TestClient, submit: Submit, database: Database) -> None:
    video = submit().json()
    with database.write() as session:
        claim(session, "pool")
    shown = client.get(f"/v1/videos/{video['id']}").json()
    assert (shown["status"], shown["queue_position"]) == ("in_progress", None)
    assert shown["started_at"] >= shown["created_at"]


def test_a_video_that_is_started_again_goes_on_from_its_last_step(
    client: TestClient, submit: Submit, queue: Queue, database: Database
) -> None:
    video = submit(settings='{"edit": {"steps": 8}}').json()

    def die_half_way(event: object) -> None:
        if isinstance(event, Progress) and (event.stage, event.done) == ("edit", 5):
            raise RuntimeError("killed")

    worker = Worker()
    first = queue.take()
    assert first is not None
    with pytest.raises(RuntimeError, match="killed"):
        worker.run(first.config, die_half_way)
    queue.put_back(POOL)
    assert client.get(f"/v1/videos/{video['id']}").json()["status"] == "queued"
    again = queue.take()
    assert again == first
    progress: list[Progress] = []
    worker.run(first.config, lambda event: progress.append(event) if isinstance(event, Progress) else None)
    steps = [event.done for event in progress if event.stage == "edit"]
    assert steps[0] >= 4
    assert steps[-1] == 8
    assert not {event.stage for event in progress} & {"read", "encode", "invert"}
