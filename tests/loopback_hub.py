"""A small Hub on the loopback interface, which the real client of huggingface_hub pushes to and loads from.

It speaks as much of the Hub's protocol as the client uses for models: making a repository, preupload, Git LFS over
HTTP, commit, model info, tree and resolve. Every commit is kept.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

TOKEN, USER = "hf_" + "loopback" * 4, "tester"
LARGE = (".safetensors", ".png", ".pt", ".pth", ".bin")  # what goes over Git LFS


@dataclass
class Commit:
    title: str
    files: dict[str, bytes]
    ident: str = ""


@dataclass
class Repo:
    private: bool = False
    writable: bool = True
    commits: list[Commit] = field(default_factory=lambda: [Commit("initial commit", {}, sha("initial"))])

    @property
    def files(self) -> dict[str, bytes]:
        """Of the last commit."""
        return self.commits[-1].files

    @property
    def titles(self) -> list[str]:
        """Of all commits but the first, which makes the repository."""
        return [commit.title for commit in self.commits[1:]]

    def at(self, revision: str) -> Commit:
        found = [commit for commit in self.commits if commit.ident == revision]
        return found[0] if found else self.commits[-1]

    def add(self, title: str, files: dict[str, bytes]) -> Commit:
        self.commits.append(Commit(title, files, sha(f"{len(self.commits)} {title}")))
        return self.commits[-1]


def sha(content: str | bytes) -> str:
    return hashlib.sha1(content.encode() if isinstance(content, str) else content).hexdigest()


class LoopbackHub:
    """The server, as a context. Several threads may ask it at once.

    Attributes:
        repos: by id.
        requests: "METHOD path" of each, in their order.
        broken_uploads: so many next uploads of large files break off in the middle.
        refused_commits: so many next commits get an error of the server.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[str] = []
        self.blobs: dict[str, bytes] = {}
        self.broken_uploads = self.refused_commits = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "LoopbackHub":
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._server.shutdown()
        self._server.server_close()


class Refused(Exception):
    def __init__(self, status: int, code: str = "", message: str = ""):
        self.status, self.headers = status, {"X-Error-Code": code, "X-Error-Message": message or code}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LoopbackHub

    def log_message(self, *args: Any) -> None:
        """Print nothing."""

    def _answer(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        path = unquote(urlsplit(self.path).path)
        self.sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        for pattern, answer in ROUTES:
            if match := re.fullmatch(pattern, path):
                try:
                    answer(self, *match.groups())
                except Refused as refused:
                    self._send(refused.status, {"error": "refused"}, refused.headers)
                return
        self._send(404, {"error": f"not spoken here: {self.path}"})

    do_GET = do_HEAD = do_POST = do_PUT = _answer

    def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    # --- what is allowed

    @property
    def _signed(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _require_token(self) -> None:
        if not self._signed:
            raise Refused(401, message="Invalid credentials in Authorization header")

    def _repo(self, name: str, to_write: bool = False) -> Repo:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self._signed):
            raise Refused(404, "RepoNotFound")
        if to_write:
            self._require_token()
            if not repo.writable:
                raise Refused(403, message="You don't have the rights")
        return repo

    # --- pushing

    def _create(self) -> None:
        self._require_token()
        asked = json.loads(self.sent)
        owner = asked.get("organization") or USER
        name = f"{owner}/{asked['name']}"
        if name in self.hub.repos:
            self._send(409, {"url": f"{self.hub.url}/{name}"})
        elif owner != USER:
            raise Refused(403, message="You don't have the rights to create a model under this namespace")
        else:
            self.hub.repos[name] = Repo(private=asked.get("visibility") == "private" or bool(asked.get("private")))
            self._send(200, {"url": f"{self.hub.url}/{name}"})

    def _branch(self, name: str, branch: str) -> None:
        self._repo(name, to_write=True)
        self._send(200, {})

    def _preupload(self, name: str, revision: str) -> None:
        self._repo(name, to_write=True)
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(self.sent)["files"]
        ]
        self._send(200, {"files": modes})

    def _large_files(self, name: str) -> None:
        self._repo(name, to_write=True)
        objects = [
            {**item, "actions": {"upload": {"href": f"{self.hub.url}/upload/{item['oid']}"}}}
            for item in json.loads(self.sent)["objects"]
        ]
        self._send(200, {"transfer": "basic", "objects": objects})

    def _upload(self, oid: str) -> None:
        if self.hub.broken_uploads > 0:
            self.hub.broken_uploads -= 1
            self.close_connection = True  # without an answer
            return
        assert hashlib.sha256(self.sent).hexdigest() == oid
        self.hub.blobs[oid] = self.sent
        self._send(200, {})

    def _commit(self, name: str, revision: str) -> None:
        repo = self._repo(name, to_write=True)
        if self.hub.refused_commits > 0:
            self.hub.refused_commits -= 1
            raise Refused(503)
        files, title = dict(repo.files), ""
        for line in self.sent.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "header":
                title = value["summary"]
            elif operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
            else:
                assert operation["key"] == "deletedFile"
                del files[value["path"]]
        commit = repo.add(title, files)
        self._send(200, {"commitOid": commit.ident, "commitUrl": f"{self.hub.url}/{name}/commit/{commit.ident}"})

    # --- loading

    def _info(self, name: str, revision: str = "main") -> None:
        commit = self._repo(name).at(revision)
        card = commit.files.get("README.md", b"").decode()
        header = yaml.safe_load(card.split("---\n")[1]) if card.startswith("---\n") else {}
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        named = {key: header.get(key) for key in ("pipeline_tag", "library_name")}
        self._send(200, {"id": name, "sha": commit.ident, "siblings": siblings, "cardData": header, **named})

    def _tree(self, name: str, revision: str, folder: str | None = None) -> None:
        files = self._repo(name).at(revision).files
        rows = [
            {"type": "file", "path": path, "size": len(content), "oid": sha(content)}
            for path, content in sorted(files.items())
            if folder is None or path.startswith(f"{folder}/")
        ]
        if folder is not None and not rows:
            raise Refused(404, "EntryNotFound")
        self._send(200, rows)

    def _resolve(self, name: str, revision: str, path: str) -> None:
        commit = self._repo(name).at(revision)
        if path not in commit.files:
            raise Refused(404, "EntryNotFound")
        content = commit.files[path]
        self._send(200, content, {"X-Repo-Commit": commit.ident, "ETag": f'"{sha(content)}"'})


MODEL = r"/api/models/([\w.-]+/[\w.-]+)"
ROUTES: list[tuple[str, Callable[..., None]]] = [
    ("/api/repos/create", _Handler._create),
    ("/api/validate-yaml", lambda handler: handler._send(200, {"errors": [], "warnings": []})),
    (MODEL, _Handler._info),
    (f"{MODEL}/revision/([^/]+)", _Handler._info),
    (f"{MODEL}/branch/([^/]+)", _Handler._branch),
    (f"{MODEL}/preupload/([^/]+)", _Handler._preupload),
    (f"{MODEL}/commit/([^/]+)", _Handler._commit),
    (f"{MODEL}/tree/([^/]+)(?:/(.+))?", _Handler._tree),
    (r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch", _Handler._large_files),
    ("/upload/([0-9a-f]+)", _Handler._upload),
    ("/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", _Handler._resolve),
]
