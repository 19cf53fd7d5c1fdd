"""A stand-in for the hub on this machine, and a client process that takes it for the hub.

    with Hub(tmp_path / "hub") as hub, Client(hub, tmp_path) as client:
        folder = hub.revision("models/us/tiny", "step1")       # write the files of a revision here
        code, out, err = client.lmc("check us/tiny@step1")     # the real command line, with the real client libraries

The server speaks what the clients of `huggingface_hub`, `transformers`, `datasets` and `timm` ask for: repository
information, trees, references, paths, `resolve` with the hub's headers and redirects (small files to a cache, large
ones to another path as its CDN does), ranges. What goes wrong on a network is switched on by name: `hub.gated`,
`hub.limited`, `hub.truncated`. It remembers what was asked of it, and by whom.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".bin", ".parquet", ".pth")  # what the hub keeps outside git, behind a redirect
TOKEN, STRANGER = "hf_accepted", "hf_not_accepted"  # of a user who accepted a gated repository's terms, and another


class Hub(ThreadingHTTPServer):
    """`root` holds `models/OWNER/NAME/REVISION/…` and `datasets/OWNER/NAME/REVISION/…`."""

    daemon_threads = True

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.gated: set[str] = set()  # repositories, "models/us/tiny"
        self.limited: dict[str, int] = {}  # file -> how many more of its downloads are answered by 429
        self.truncated: dict[str, int] = {}  # file -> how many more of its downloads break off half way
        self.sent: list[str] = []  # files whose content was sent whole or from some byte on
        self.agents: set[str] = set()  # client libraries, by what they call themselves

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def revision(self, repository: str, name: str = "main") -> Path:
        """The folder of a revision, made if new."""
        folder = self.root / repository / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def commit(self, repository: str, name: str = "main") -> str:
        """The hash that a revision resolves to."""
        return hashlib.sha1(f"{repository}@{name}".encode()).hexdigest()

    def find(self, repository: str, asked: str) -> tuple[Path, str] | None:
        """The folder and hash of a revision, by its name or its hash."""
        for folder in sorted((self.root / repository).glob("*")):
            commit = self.commit(repository, folder.name)
            if asked in (folder.name, commit):
                return folder, commit
        return None

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Silent."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.form = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.agents |= set(re.findall(r"([a-z_]+)/\d", self.headers.get("User-Agent", "")))
        path = unquote(urlsplit(self.path).path).strip("/")
        if found := re.fullmatch(r"api/(models|datasets)/([^/]+/[^/]+)(/.*)?", path):
            kind, name, rest = found.groups()
            self._repository(f"{kind}/{name}", (rest or "").strip("/"))
        elif found := re.fullmatch(r"(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            kind, name, revision, file = found.groups()
            self._resolve(f"{kind or 'models/'}{name}", revision, file)
        elif found := re.fullmatch(r"(?:cdn|resolve-cache)/(.+)", path):
            self._content(found[1])
        elif path == "":
            self._answer(200, b"")
        else:
            self._missing("EntryNotFound")

    def _repository(self, repository: str, rest: str) -> None:
        """api/models/OWNER/NAME and below."""
        if not (self.server.root / repository).is_dir():
            return self._missing("RepoNotFound", 401)  # which the hub also says where it may not tell
        head, _, tail = rest.partition("/")
        if head == "auth-check":
            return self._answer(200, b"") if self._may(repository) else self._refuse(repository)
        if head == "refs":
            names = [p.name for p in (self.server.root / repository).iterdir()]
            branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": self.server.commit(repository, n)}
                        for n in names]  # fmt: skip
            return self._json({"branches": branches, "tags": [], "converts": []})
        revision, _, inside = tail.partition("/") if tail else ("main", "", "")
        found = self.server.find(repository, revision)
        if found is None:
            return self._missing("RevisionNotFound")
        folder, commit = found
        match head:
            case "" | "revision":
                siblings = [{"rfilename": name} for name in _files(folder)]
                identity = {"id": repository.partition("/")[2], "sha": commit, "siblings": siblings, "private": False}
                return self._json({**identity, "gated": "auto" if repository in self.server.gated else False})
            case "tree":
                place = folder / inside
                if not place.is_dir():
                    return self._missing("EntryNotFound")
                deep = parse_qs(urlsplit(self.path).query).get("recursive", ["False"])[0].lower() in ("true", "1")
                paths = place.rglob("*") if deep else place.glob("*")
                return self._json([_entry(folder, path) for path in sorted(paths)])
            case "paths-info":
                asked = parse_qs(self.form.decode()).get("paths") if self.form[:1] != b"{" else None
                wanted = asked if asked is not None else json.loads(self.form or b"{}").get("paths", [])
                places = [folder / name.strip("/") for name in ([wanted] if isinstance(wanted, str) else wanted)]
                return self._json([_entry(folder, path) for path in places if path.exists() and path != folder])
        return self._missing("EntryNotFound")

    def _resolve(self, repository: str, revision: str, file: str) -> None:
        """What the hub itself answers for a file: headers, and where its content lies."""
        if not (self.server.root / repository).is_dir():
            return self._missing("RepoNotFound", 401)
        found = self.server.find(repository, revision)
        if found is None:
            return self._missing("RevisionNotFound")
        folder, commit = found
        headers = {"X-Repo-Commit": commit}
        if not self._may(repository):
            return self._refuse(repository)
        if not (folder / file).is_file():
            return self._missing("EntryNotFound", headers=headers)
        entry = _entry(folder, folder / file)
        inside = (folder / file).relative_to(self.server.root).as_posix()
        if self.server.limited.get(file, 0) > 0:
            self.server.limited[file] -= 1
            return self._answer(429, b"slow down", {"Retry-After": "0"})
        headers |= {"X-Linked-Size": str(entry["size"]), "Accept-Ranges": "bytes"}
        if "lfs" in entry:
            headers |= {"X-Linked-ETag": f'"{entry["lfs"]["oid"]}"', "ETag": f'"{entry["oid"]}"'}
            return self._answer(302, b"", headers | {"Location": f"{self.server.endpoint}/cdn/{inside}"})
        headers |= {"ETag": f'"{entry["oid"]}"', "Location": f"/resolve-cache/{inside}"}
        return self._answer(307, b"", headers)

    def _content(self, inside: str) -> None:
        """A file's bytes, or the range that was asked for."""
        path = self.server.root / inside
        folder = path.relative_to(self.server.root)
        data, kind = path.read_bytes(), "/".join(folder.parts[:3])
        repository, file = kind, "/".join(folder.parts[4:])
        revision = folder.parts[3]
        headers = {
            "ETag": f'"{_entry(self.server.root / repository / revision, path)["oid"]}"',
            "X-Repo-Commit": self.server.commit(repository, revision),
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        first, last = 0, len(data) - 1
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            first, last = int(asked[1]), min(int(asked[2] or last), last)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        body = data[first : last + 1]
        if self.command == "GET" and not (asked and asked[2]):
            self.server.sent.append(file)
        cut = self.command == "GET" and self.server.truncated.get(file, 0) > 0
        if cut:
            self.server.truncated[file] -= 1
        self._answer(206 if asked else 200, body, headers, half=cut)

    def _may(self, repository: str) -> bool:
        """Whether the asking user may read; names stay visible to all, as they do on the hub."""
        return repository not in self.server.gated or self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _refuse(self, repository: str) -> None:
        status = 403 if self.headers.get("Authorization") else 401
        name = repository.removeprefix("models/")
        message = f"Access to {name} is restricted. You must have access to it and be authenticated to access it."
        self._answer(status, message.encode(), {"X-Error-Code": "GatedRepo", "X-Error-Message": message})

    def _missing(self, code: str, status: int = 404, headers: dict[str, str] | None = None) -> None:
        self._answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": "not here"} | (headers or {}))

    def _json(self, content: object) -> None:
        self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, half: bool = False) -> None:
        self.send_response(status)
        for name, value in ((headers or {}) | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if half else body)
        if half:  # the connection breaks with the rest of the answer still owed
            self.wfile.flush()
            self.close_connection = True


def _files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _entry(folder: Path, path: Path) -> dict[str, Any]:
    """A file or folder as the hub lists it: git's hash, and for large files the sha256 of the content."""
    name = path.relative_to(folder).as_posix()
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": hashlib.sha1(name.encode()).hexdigest(), "size": 0}
    data = path.read_bytes()
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(data)}
    entry["oid"] = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    if path.suffix in LARGE:
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 135}
    return entry


SERVE = """
import contextlib, io, json, sys, traceback
answers = sys.stdout
for line in sys.stdin:
    asked, code, out, err = json.loads(line), 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            if "lmc" in asked:
                from lmc.cli import main
                code = main(asked["lmc"])
            else:
                exec(asked["python"], {})
        except BaseException:
            code = 1
            traceback.print_exc()
    print(json.dumps([code, out.getvalue(), err.getvalue()]), file=answers, flush=True)
"""


class Client:
    """A process whose hub is the stand-in. It stays, so that the libraries are imported once for many commands."""

    def __init__(self, hub: Hub, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HOME": str(folder / "cache"),
            "XDG_CACHE_HOME": str(folder / "converted"),
            "HF_DEBUG": "",
            "NO_PROXY": "127.0.0.1",
            "PYTHONWARNINGS": "ignore",
            **environment,
        }
        self.environment.pop("HF_TOKEN", None)

    def lmc(self, line: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of an lmc command."""
        return self._ask({"lmc": line.split()})

    def python(self, code: str) -> str:
        """What a program prints."""
        status, out, err = self._ask({"python": code})
        assert status == 0, err
        return out.strip()

    def token(self, value: str | None) -> None:
        """Log in with a token, as `HF_TOKEN` does; or out."""
        change = f"os.environ['HF_TOKEN'] = {value!r}" if value else "os.environ.pop('HF_TOKEN', None)"
        self.python(f"import os; {change}")

    def _ask(self, request: object) -> tuple[int, str, str]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        code, out, err = json.loads(self.process.stdout.readline())
        return code, out, err

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            env=self.environment,
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)
