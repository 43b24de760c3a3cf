"""A Hub of a few repositories on this machine, which speaks as much of the real one's protocol as is needed here."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

GATED = "gated"


@dataclass
class StubHub:
    """Repositories by name, each a folder and its commit; a name alone may be gated.

    Attributes:
        served: the files that were downloaded, in order.
        down: whether it answers nothing but errors.
        owners: who a token belongs to; those of readers begin with `read`.
        pushed: the files of repositories that were made here, by name.
        private: names of those among them that are private.
    """

    folders: dict[str, dict[str, Path]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    served: list[str] = field(default_factory=list)
    down: bool = False
    owners: dict[str, str] = field(default_factory=dict)
    pushed: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)

    def refusal(self, token: str, repository: str) -> int | None:
        """The status with which it refuses to let a token write; None if it may."""
        if token not in self.owners:
            return 401
        may = self.owners[token] == repository.partition("/")[0] and not token.startswith("read")
        return None if may else 403

    def add(self, name: str, folder: Path, revision: str = "main") -> str:
        """Publish a folder, and return its commit."""
        self.folders.setdefault(name, {})[revision] = folder
        return commit_of(folder)

    def folder(self, name: str, revision: str) -> Path | None:
        """The folder at a branch or commit."""
        revisions = self.folders.get(name, {})
        commits = {commit_of(folder): folder for folder in revisions.values()}
        return revisions.get(revision) or commits.get(revision)


def commit_of(folder: Path) -> str:
    return hashlib.sha1(str(folder).encode()).hexdigest()


@contextmanager
def serving(hub: StubHub, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the Hub's library ask this Hub, with a cache of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(body=False)

        def do_GET(self) -> None:
            self.answer(body=True)

        def do_POST(self) -> None:
            parts = urlsplit(self.path).path.strip("/").split("/")
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if parts[1:] == ["validate-yaml"]:
                return self.answer_json({})
            if parts[1:] == ["repos", "create"]:
                return self.create(json.loads(content))
            repository = f"{parts[2]}/{parts[3]}"
            refused = hub.refusal(self.token(), repository)
            if refused:
                return self.refuse(refused, "")
            if parts[4] == "preupload":
                names = [each["path"] for each in json.loads(content)["files"]]
                files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
                return self.answer_json({"files": files})
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    hub.pushed[repository][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            return self.answer_json({"commitUrl": f"{address}/{repository}/commit/0", "commitOid": "0"})

        def token(self) -> str:
            return self.headers.get("Authorization", "").removeprefix("Bearer ")

        def create(self, wanted: dict[str, str]) -> None:
            repository = f"{wanted['organization']}/{wanted['name']}"
            refused = hub.refusal(self.token(), repository)
            if refused:
                return self.refuse(refused, "")
            if repository in hub.pushed:
                return self.answer_json({"url": f"{address}/{repository}"}, 409)
            hub.pushed[repository] = {}
            if wanted["visibility"] == "private":
                hub.private.add(repository)
            return self.answer_json({"url": f"{address}/{repository}"})

        def answer_json(self, answer: object, status: int = 200) -> None:
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

        def answer(self, *, body: bool) -> None:
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            api = parts[:2] == ["api", "models"]
            owner, name, what, revision, *file = [*parts[2:], "revision", "main"] if api else parts
            repository = f"{owner}/{name}"
            if hub.down:
                return self.refuse(501, "Down")
            if what == "auth-check":
                refused = hub.refusal(self.token(), repository)
                return self.refuse(refused, "") if refused else self.answer_json({})
            if repository in hub.gated:
                return self.refuse(403, "GatedRepo")
            if repository not in hub.folders:
                return self.refuse(404, "RepoNotFound")
            folder = hub.folder(repository, revision)
            if folder is None:
                return self.refuse(404, "RevisionNotFound")
            if api:
                return self.send(json.dumps(listing(folder, what)).encode(), body, folder)
            path = folder.joinpath(*file)
            if not path.is_file():
                return self.refuse(404, "EntryNotFound", folder)
            if body:
                hub.served.append("/".join(file))
            return self.send(path.read_bytes(), body, folder)

        def refuse(self, status: int, code: str, folder: Path | None = None) -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            if folder is not None:
                self.send_header("X-Repo-Commit", commit_of(folder))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def send(self, content: bytes, body: bool, folder: Path) -> None:
            self.send_response(200)
            self.send_header("X-Repo-Commit", commit_of(folder))
            self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def listing(folder: Path, what: str) -> object:
    """The answer to `revision` (what a commit is) or `tree` (its files)."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in files}
    if what == "tree":
        return [
            {
                "type": "file",
                "path": name,
                "size": path.stat().st_size,
                "oid": hashlib.sha1(path.read_bytes()).hexdigest(),
            }
            for name, path in names.items()
        ]
    return {"id": "someone/model", "sha": commit_of(folder), "siblings": [{"rfilename": name} for name in names]}
