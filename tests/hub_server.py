"""A hub in one process: the parts of the Hugging Face Hub's HTTP interface that models are loaded and pushed by.

Repositories live in memory. Small files travel inline, ``.safetensors`` and ``.bin`` files through the LFS endpoints
and a redirect, as on the real hub. ``hub.requests`` holds what was asked for, ``hub.fail`` makes requests fail on
purpose.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import yaml
from tests.support import close_hub_session

LFS_SUFFIXES = (".safetensors", ".bin")


def blob_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Commit:
    sha: str
    files: dict[str, bytes]
    message: str = ""
    description: str = ""


@dataclass
class Repo:
    name: str
    private: bool = False
    refs: dict[str, Commit] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.commit("main", {})

    def commit(self, ref: str, files: dict[str, bytes], message: str = "", description: str = "") -> Commit:
        seed = f"{self.name} {len(self.commits)} {message}".encode()
        made = Commit(hashlib.sha1(seed).hexdigest(), dict(files), message, description)
        self.commits[made.sha] = self.refs[ref] = made
        return made

    def find(self, revision: str) -> Commit | None:
        return self.refs.get(revision) or self.commits.get(revision)


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    token: str | None
    agent: str

    def __repr__(self) -> str:
        return f"{self.method} {self.path}"


class FakeHub:
    """The server; use it as a context manager. ``tokens`` are those that may write and read private repositories."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.tokens = {"hf_good": "someone"}
        self.requests: list[Asked] = []
        self.lfs: dict[str, bytes] = {}
        self.datasets: dict[str, str] = {}  # name to language
        self.connections: list[socket.socket] = []
        # Asked -> status to answer with, or None to answer as usual.
        self.fail: Callable[[Asked], int | None] = lambda asked: None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": self}))
        self._server.daemon_threads = True
        port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{port}"
        # Another host name, as on the real hub: clients must not send their token there.
        self.cdn = f"http://localhost:{port}/cdn"

    def __enter__(self) -> FakeHub:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self.stop()

    def asked(self) -> list[str]:
        """Return what was asked for, without the client's own look-up of the program that runs it."""
        return [repr(asked) for asked in self.requests if asked.path != "/api/agent-harnesses"]

    def stop(self) -> None:
        """Close the port and what is connected: connections are refused from now on."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            for connection in self.connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def add(self, name: str, files: dict[str, bytes], private: bool = False, ref: str = "main") -> Commit:
        repo = self.repos.setdefault(name, Repo(name, private))
        return repo.commit(ref, files, "added")

    def add_folder(self, name: str, folder, **options) -> Commit:
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        return self.add(name, files, **options)

    def files(self, name: str, ref: str = "main") -> dict[str, bytes]:
        return self.repos[name].refs[ref].files

    def head(self, name: str, ref: str = "main") -> Commit:
        return self.repos[name].refs[ref]


class _Answer(Exception):
    def __init__(self, status: int, body: object = None, error: str | None = None, **headers: str) -> None:
        super().__init__(status)
        self.status, self.body, self.headers = status, body, {k.replace("_", "-"): v for k, v in headers.items()}
        if error is not None:
            self.headers["X-Error-Code"] = error


class Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.hub.connections.append(self.connection)

    def log_message(self, *args: object) -> None: ...

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        self.query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.route = parts.path
        header = self.headers.get("Authorization")
        self.token = header.removeprefix("Bearer ") if header else None
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = Asked(self.command, unquote(parts.path), self.token, self.headers.get("User-Agent", ""))
        self.hub.requests.append(asked)
        try:
            status = self.hub.fail(asked)
            if status is not None:
                raise _Answer(status, {"error": "on purpose"})
            if self.token is not None and self.token not in self.hub.tokens:
                raise _Answer(401, {}, X_Error_Message="Invalid credentials in Authorization header")
            self._dispatch()
            raise _Answer(404, {"error": f"the fake hub has no route {self.command} {parts.path}"})
        except _Answer as answer:
            self._send(answer)

    def _dispatch(self) -> None:
        for method, pattern, act in ROUTES:
            found = re.fullmatch(pattern, self.route)
            if found and self.command in method.split():
                act(self, *(unquote(group) for group in found.groups(default="")))

    def _send(self, answer: _Answer) -> None:
        body = answer.body
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.send_response(answer.status)
        for key, value in answer.headers.items():
            self.send_header(key, value)
        if "Content-Length" not in answer.headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    # -- reading -------------------------------------------------------------------------------------------------

    def repo(self, name: str) -> Repo:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and self.token is None):
            # The real hub does not tell a stranger whether a private repository exists.
            raise _Answer(404 if self.token else 401, {}, "RepoNotFound")
        return repo

    def commit(self, name: str, revision: str) -> Commit:
        found = self.repo(name).find(revision)
        if found is None:
            raise _Answer(404, {}, "RevisionNotFound")
        return found

    def info(self, name: str, revision: str = "main") -> None:
        commit = self.commit(name, revision)
        fields = {"id": name, "modelId": name, "sha": commit.sha, "private": self.hub.repos[name].private, "tags": []}
        raise _Answer(200, {**fields, "siblings": [{"rfilename": path} for path in sorted(commit.files)]})

    def tree(self, name: str, revision: str, path: str = "") -> None:
        files = self.commit(name, revision).files
        path = path.strip("/")
        inside = {p: c for p, c in files.items() if not path or p.startswith(f"{path}/")}
        if path and not inside:
            raise _Answer(404, {}, "EntryNotFound")
        recursive = self.query.get("recursive") in ("True", "true", "1")
        rows: dict[str, dict] = {}
        for name_, content in sorted(inside.items()):
            below = name_[len(path) :].strip("/")
            if "/" in below and not recursive:
                folder = f"{path}/{below.split('/')[0]}".strip("/")
                rows[folder] = {"type": "directory", "path": folder, "oid": blob_id(folder.encode())}
                continue
            row = {"type": "file", "path": name_, "size": len(content), "oid": blob_id(content)}
            if name_.endswith(LFS_SUFFIXES):
                row["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
            rows[name_] = row
        raise _Answer(200, list(rows.values()))

    def resolve(self, name: str, revision: str, path: str) -> None:
        commit = self.commit(name, revision)
        stamp = {"X_Repo_Commit": commit.sha}
        if path not in commit.files:
            raise _Answer(404, {}, "EntryNotFound", **stamp)
        content = commit.files[path]
        if path.endswith(LFS_SUFFIXES):
            oid = hashlib.sha256(content).hexdigest()
            self.hub.lfs[oid] = content
            linked = {
                "X_Linked_Etag": f'"{oid}"',
                "X_Linked_Size": str(len(content)),
                "Location": f"{self.hub.cdn}/{oid}",
            }
            raise _Answer(302, b"", **stamp, **linked)
        raise _Answer(200, content, ETag=f'"{blob_id(content)}"', **stamp)

    def cdn(self, oid: str) -> None:
        raise _Answer(200, self.hub.lfs[oid], ETag=f'"{oid}"')

    def whoami(self) -> None:
        raise _Answer(*((200, {"name": self.hub.tokens[self.token]}) if self.token else (401, {})))

    def dataset(self, name: str) -> None:
        if name not in self.hub.datasets:
            raise _Answer(404, {}, "RepoNotFound")
        card = {"language": self.hub.datasets[name]}
        raise _Answer(200, {"id": name, "sha": "0" * 40, "tags": [], "cardData": card})

    def branches(self, name: str) -> None:
        refs = self.repo(name).refs
        rows = [{"name": ref, "ref": f"refs/heads/{ref}", "targetCommit": refs[ref].sha} for ref in refs]
        raise _Answer(200, {"branches": rows, "tags": [], "converts": []})

    # -- writing -------------------------------------------------------------------------------------------------

    def writer(self) -> str:
        if self.token is None:
            raise _Answer(401, {"error": "no token"}, X_Error_Message="no token")
        return self.hub.tokens[self.token]

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked.get('organization') or self.writer()}/{asked['name']}"
        self.writer()
        if name in self.hub.repos:
            raise _Answer(409, {"error": "You already created this model repo", "url": f"{self.hub.url}/{name}"})
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.hub.repos[name] = Repo(name, private)
        raise _Answer(200, {"url": f"{self.hub.url}/{name}", "name": name, "id": name})

    def branch(self, name: str, ref: str) -> None:
        self.writer()
        repo = self.repo(name)
        if ref in repo.refs:
            raise _Answer(409, {"error": "Reference already exists"})
        start = json.loads(self.body or b"{}").get("startingPoint", "main")
        repo.refs[ref] = self.commit(name, start)
        raise _Answer(201, {})

    def validate(self) -> None:
        text = json.loads(self.body)["content"]
        front = text.split("---\n")[1] if text.startswith("---\n") else ""
        try:
            yaml.safe_load(front)
        except yaml.YAMLError as error:
            raise _Answer(400, {"errors": [{"message": str(error)}], "warnings": []}) from None
        raise _Answer(200, {"errors": [], "warnings": []})

    def preupload(self, name: str, revision: str) -> None:
        self.writer()
        there = self.commit(name, revision).files
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular",
                "shouldIgnore": False,
                **({"oid": _oid(file["path"], there[file["path"]])} if file["path"] in there else {}),
            }
            for file in json.loads(self.body)["files"]
        ]
        raise _Answer(200, {"files": files})

    def lfs_batch(self, name: str) -> None:
        self.writer()
        objects = [
            {**item, "actions": {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}"}}}
            for item in json.loads(self.body)["objects"]
        ]
        raise _Answer(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> None:
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise _Answer(400, {"error": "wrong content"})
        self.hub.lfs[oid] = self.body
        raise _Answer(200, b"")

    def push(self, name: str, revision: str) -> None:
        self.writer()
        repo = self.repo(name)
        files = dict(self.commit(name, revision).files)
        header = {"summary": "", "description": ""}
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                header = value
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                files[value["path"]] = self.hub.lfs[value["oid"]]
            elif item["key"] == "deletedFile":
                files.pop(value["path"])
        as_pr = self.query.get("create_pr") == "1"
        number = sum(ref.startswith("refs/pr/") for ref in repo.refs) + 1
        ref = f"refs/pr/{number}" if as_pr else revision
        made = repo.commit(ref, files, header["summary"], header.get("description", ""))
        answer = {"commitUrl": f"{self.hub.url}/{name}/commit/{made.sha}", "commitOid": made.sha}
        if as_pr:
            answer["pullRequestUrl"] = f"{self.hub.url}/{name}/discussions/{number}"
        raise _Answer(200, answer)

    do_GET = do_HEAD = do_POST = do_PUT = _serve


NAME, REVISION = "([^/]+/[^/]+)", "([^/]+)"
ROUTES = [
    ("GET", "/api/whoami-v2", Handler.whoami),
    ("POST", "/api/repos/create", Handler.create),
    ("POST", "/api/validate-yaml", Handler.validate),
    ("GET", f"/api/models/{NAME}", Handler.info),
    ("GET", f"/api/models/{NAME}/refs", Handler.branches),
    ("GET", f"/api/datasets/{NAME}", Handler.dataset),
    ("GET", f"/api/models/{NAME}/revision/{REVISION}", Handler.info),
    ("GET", f"/api/models/{NAME}/tree/{REVISION}(?:/(.+))?", Handler.tree),
    ("GET HEAD", f"/{NAME}/resolve/{REVISION}/(.+)", Handler.resolve),
    ("GET HEAD", "/cdn/(.+)", Handler.cdn),
    ("POST", f"/api/models/{NAME}/branch/{REVISION}", Handler.branch),
    ("POST", f"/api/models/{NAME}/preupload/{REVISION}", Handler.preupload),
    ("POST", f"/api/models/{NAME}/commit/{REVISION}", Handler.push),
    ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    ("PUT", "/lfs/(.+)", Handler.lfs_put),
]


def _oid(path: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if path.endswith(LFS_SUFFIXES) else blob_id(content)


@contextlib.contextmanager
def pointed_at(hub: FakeHub, cache, monkeypatch):
    """Point this process's hub client at the fake hub, with an empty cache and without a stored token."""
    from huggingface_hub import constants, hf_api

    template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    values = {
        "ENDPOINT": hub.url, "HUGGINGFACE_CO_URL_TEMPLATE": template, "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(cache), "HF_TOKEN_PATH": str(cache / "no-token"), "HF_HUB_DISABLE_XET": True,
    }  # fmt: skip
    for key, value in values.items():
        monkeypatch.setattr(constants, key, value, raising=False)
    monkeypatch.setattr(hf_api.api, "endpoint", hub.url)
    # transformers keeps a client of its own, which remembers the address that it was made with.
    if "transformers.utils.hub" in sys.modules:
        monkeypatch.setattr(sys.modules["transformers.utils.hub"], "_hf_api", None, raising=False)
    for key in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "SENTENCE_TRANSFORMERS_HOME"):
        monkeypatch.delenv(key, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    close_hub_session()
    try:
        yield hub
    finally:
        close_hub_session()
