"""Names of hub repositories, against a stand-in for the hub on this machine and the real client."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pico
import pytest
import torch
from safetensors.torch import load_file

import lmc

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Repository information and files, as the client asks for them; remembers what was downloaded whole."""

    root: Path
    whole: list[str]

    def log_message(self, *_: object) -> None:
        """Silent."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"] and (self.root / "/".join(parts[2:4])).is_dir():
            files = sorted(p.name for p in (self.root / "/".join(parts[2:4])).iterdir())
            if parts[4:5] == ["tree"]:
                self._json([{"type": "file", "path": f, "size": 1, "oid": "0"} for f in files])
            elif parts[5:] in ([], ["main"], ["step1"], [COMMIT]):
                siblings = [{"rfilename": f} for f in files]
                self._json({"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": siblings})
            else:
                self._missing("RevisionNotFound")
        elif len(parts) == 5 and parts[2] == "resolve" and (self.root / parts[0] / parts[1] / parts[4]).is_file():
            self._file(self.root / parts[0] / parts[1] / parts[4])
        else:
            self._missing("EntryNotFound" if (self.root / "/".join(parts[:2])).is_dir() else "RepoNotFound")

    def _json(self, content: object) -> None:
        self._answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _missing(self, code: str) -> None:
        self._answer(404, b"{}", {"X-Error-Code": code, "X-Error-Message": "not here"})

    def _file(self, path: Path) -> None:
        data = path.read_bytes()
        headers = {"ETag": hashlib.sha256(data).hexdigest(), "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
        asked = self.headers.get("Range")
        if asked:
            start, _, end = asked.removeprefix("bytes=").partition("-")
            last = min(int(end or len(data)), len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{last}/{len(data)}"
            self._answer(206, data[int(start) : last + 1], headers)
            return
        if self.command == "GET":
            self.whole.append(path.name)
        self._answer(200, data, headers)

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    handler = type("Handler", (Hub,), {"root": tmp_path / "hub", "whole": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def command(hub: ThreadingHTTPServer, tmp_path: Path, line: str, offline: bool = False) -> tuple[int, str, str]:
    """Run lmc in a process that takes the stand-in for the hub."""
    environment = {
        **os.environ,
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_address[1]}",
        "HF_HUB_OFFLINE": str(int(offline)),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HOME": str(tmp_path / "cache"),
        "NO_PROXY": "127.0.0.1",
    }
    process = [sys.executable, "-m", "lmc", *line.split()]
    done = subprocess.run(process, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=180)
    return done.returncode, done.stdout, done.stderr


def test_a_sound_repository_is_loaded_and_kept(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        lmc.save(pico.vit(seed, torch.float32), tmp_path / "hub" / "us" / name)
    code, _, err = command(hub, tmp_path, "match us/a@step1 us/b --method weights --out aligned")
    assert code == 0, err
    described = json.loads((tmp_path / "aligned" / "alignment.json").read_text())
    assert [p["name"] for p in described["parents"]] == [f"us/a@{COMMIT}", f"us/b@{COMMIT}"]
    assert str(tmp_path) not in json.dumps(described)
    code, _, err = command(hub, tmp_path, "merge aligned --out merged", offline=True)
    assert code == 0, err
    assert load_file(tmp_path / "merged" / "model.safetensors").keys() == pico.vit().state_dict().keys()


def test_nothing_large_is_downloaded_from_a_repository_that_is_refused(
    hub: ThreadingHTTPServer, tmp_path: Path
) -> None:
    folder = tmp_path / "hub" / "us" / "broken"
    lmc.save(pico.vit(0, torch.float32), folder)
    config = json.loads((folder / "config.json").read_text())
    config["model_args"]["embed_dim"] = 20
    (folder / "config.json").write_text(json.dumps(config))
    code, _, err = command(hub, tmp_path, "check us/broken")
    assert code == 2
    assert "expected shape" in err.splitlines()[-1]
    assert "config.json" in hub.RequestHandlerClass.whole
    assert "model.safetensors" not in hub.RequestHandlerClass.whole


def test_what_is_not_there_is_one_line(hub: ThreadingHTTPServer, tmp_path: Path) -> None:
    lmc.save(pico.vit(0, torch.float32), tmp_path / "hub" / "us" / "a")
    for name in ("us/nothing", "us/a@step9"):
        code, _, err = command(hub, tmp_path, f"check {name}")
        assert code == 2
        assert err.splitlines()[-1].startswith(f"error: {name}: no such folder, and not available from the hub")
        assert "Traceback" not in err
