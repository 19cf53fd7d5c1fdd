"""What a run needs is asked for before it starts, and what is missing is said with what to do about it."""

import http.server
import sys
import threading
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import constants

from lmc.errors import ArgumentError
from lmc.reproduce import needs
from lmc.reproduce.ledger import figures
from lmc.reproduce.needs import Needs, missing, together
from lmc.reproduce.training.settings import ITEMS, LAPTOP, corpora, work

GATED = "datasets/ILSVRC/imagenet-1k"


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers: anyone may look, the token `good` may read the gated repository."""

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        allowed = self.headers.get("Authorization") == "Bearer good"
        self.send_response(200 if allowed else 403)
        if not allowed:
            self.send_header("X-Error-Code", "GatedRepo")
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.HfApi", partial(huggingface_hub.HfApi, endpoint=address))
    yield
    server.shutdown()
    server.server_close()


def with_token(monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: token)
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: token)


def test_a_machine_that_has_everything(hub: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with_token(monkeypatch, "good")
    needs = Needs(network=True, token=GATED, memory_gb=1e-6, disk_gb=1e-6, download_gb=1e-6, hours=9)
    assert missing(needs) == []
    assert missing(Needs()) == []


def test_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert missing(Needs(network=True)) == ["the hub, but HF_HUB_OFFLINE is set: unset it"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    [line] = missing(Needs(network=True))
    assert "http://127.0.0.1:9 does not answer" in line and line.endswith("connect to a network, or set HF_ENDPOINT")


def test_no_token_a_token_without_access_and_a_folder_instead(
    hub: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    needs = Needs(network=True, token=GATED, instead="LMC_IMAGENET")
    with_token(monkeypatch, None)
    [line] = missing(needs)
    assert line.startswith(f"a token for {GATED}: accept its terms at http://127.0.0.1:")
    assert line.endswith("run `hf auth login`, or set LMC_IMAGENET to a folder that has the data")
    with_token(monkeypatch, "stranger")
    [line] = missing(needs)
    assert line.startswith(f"access to {GATED}, which this token has not: accept its terms at")
    monkeypatch.setenv("LMC_IMAGENET", str(tmp_path / "none"))  # it is what the chapter would read, token or not
    assert missing(needs) == [f"a folder with train and val, LMC_IMAGENET names none: {tmp_path / 'none'}"]
    (tmp_path / "train").mkdir()
    monkeypatch.setenv("LMC_IMAGENET", str(tmp_path))
    assert missing(needs) == [f"a folder with train and val, LMC_IMAGENET names one without: {tmp_path}"]
    (tmp_path / "val").mkdir()
    assert missing(needs) == []


def test_no_gpu_too_small_a_gpu_and_one_that_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_available=lambda: False)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    assert missing(Needs(gpu_gb=16)) == ["a GPU with 16 GB, found none: a smaller profile runs without"]
    size = SimpleNamespace(total_memory=12e9)
    vars(cuda).update(is_available=lambda: True, device_count=lambda: 2, get_device_properties=lambda _: size)
    assert missing(Needs(gpu_gb=16)) == ["a GPU with 16 GB, found one with 12 GB: use --jobs 1, or a smaller profile"]
    assert missing(Needs(gpu_gb=12)) == []


def test_too_little_memory_and_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "not/yet/there"))
    monkeypatch.setattr(needs.shutil, "disk_usage", lambda place: SimpleNamespace(free=3e9 if place == tmp_path else 0))
    memory, disk = missing(Needs(memory_gb=1e6, disk_gb=5, download_gb=4))
    assert memory.startswith("1e+06 GB of memory, found ") and memory.endswith("close programs, or use --jobs 1")
    assert disk == "5 GB of disk, found 3.0 GB free: point HF_HOME to a larger disk"
    assert missing(Needs(disk_gb=3, download_gb=3)) == []
    monkeypatch.setattr("lmc.reproduce.places.checkout", lambda: tmp_path)
    assert missing(Needs(disk_gb=3)) == []
    assert missing(Needs(disk_gb=4)) == ["4 GB of disk, found 3.0 GB free: move the clone to a larger disk"]


def test_what_several_notebooks_need_together() -> None:
    one = Needs(network=True, token="a/b", gpu_gb=16, memory_gb=8, disk_gb=5, download_gb=3.4, hours=2)
    two = Needs(token="datasets/c/d", gpu_gb=10, disk_gb=1, hours=0.5)
    first, second = together([one, two, Needs()], jobs=1)
    assert first == Needs(True, "a/b", "", (), 16, 8, 6, 3.4, 2.5) and second == Needs(token="datasets/c/d")
    assert together([one, two], jobs=2)[0].gpu_gb == 26  # both at once
    assert together([Needs()], jobs=2) == []
    assert str(first) == (
        "network, a token for a/b, 3.4 GB to download, 6 GB of disk, a GPU with 16 GB, 8 GB of memory, about 2.5 h"
    )


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{gpu: 3}", ": unknown gpu; known: corpora, .*, token"),
        ("{gpu_gb: much}", ", gpu_gb: expected a number ≥ 0, found 'much'"),
        ("{hours: -1}", ", hours: expected a number ≥ 0, found -1"),
        ("{disk_gb: true}", ", disk_gb: expected a number ≥ 0, found True"),
        ("{network: 1}", ", network: expected true or false, found 1"),
        ("{token: true}", ", token: expected text, found True"),
        ("{corpora: cifar10}", ", corpora: expected a list, found 'cifar10'"),
        ("3", ": expected fields, found 3"),
    ],
)
def test_a_mistake_in_the_ledger_is_named(tmp_path: Path, entry: str, message: str) -> None:
    (tmp_path / "figures.yml").write_text(
        f"one: {{title: t, notebook: n, profiles: [paper], results: r, draw: d, needs: {{paper: {entry}}}}}\n"
    )
    with pytest.raises(ArgumentError, match=f"figures.yml, one, needs, paper{message}"):
        figures(tmp_path / "figures.yml")


def test_corpora_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lmc.reproduce.places.checkout", lambda: tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    needs = Needs(corpora=("tinyshakespeare-2048", "cifar10"))
    assert str(needs) == "the corpora tinyshakespeare-2048, cifar10"
    both = [Needs(hours=1, corpora=("cifar10", "tiny-imagenet")), needs]
    assert together(both, jobs=1) == [Needs(corpora=("cifar10", "tiny-imagenet", "tinyshakespeare-2048"), hours=1)]
    said = "the corpora tinyshakespeare-2048, cifar10, and LMC_TEST_DATA {}: see book/gpu.md"
    monkeypatch.delenv("LMC_TEST_DATA", raising=False)
    assert missing(needs) == [said.format("is not set")]
    monkeypatch.setenv("LMC_TEST_DATA", str(tmp_path / "none"))
    assert missing(needs) == [said.format("names no folder")]
    monkeypatch.setenv("LMC_TEST_DATA", str(tmp_path))
    assert missing(needs) == [said.format("names a folder without")]
    (tmp_path / "cifar10_jpeg").mkdir()  # where the variable says
    inputs = tmp_path / "build/inputs"
    inputs.mkdir(parents=True)
    (inputs / "tinyshakespeare-2048-train.npz").touch()  # half prepared
    assert missing(needs) == [said.format("names a folder without").replace(", cifar10", "")]
    (inputs / "tinyshakespeare-2048-eval.npz").touch()
    assert missing(needs) == []
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("lmc.reproduce.needs.urlopen", lambda *_, **__: BytesIO())  # what a hub has need not be here
    assert missing(Needs(corpora=("wikitext2",))) == []
    with pytest.raises(ArgumentError, match="corpus 'nowhere': expected one of enwiki2015, "):
        missing(Needs(corpora=("nowhere",)))


def test_the_ledger_names_the_corpora_that_the_campaign_reads() -> None:
    for size, profile in (("full", "gpu"), ("laptop", "laptop")):
        works = {w.id: w for item in ITEMS for w in (work(item, size) if size == "full" or stated(item) else ())}
        for figure in figures().values():
            if profile in figure.profiles and figure.results in works:
                assert set(corpora([works[figure.results]])) <= set(figure.needs[profile].corpora), figure.id


def stated(item: int) -> bool:
    """Whether an item has a laptop size."""
    return any(each.id in LAPTOP for each in ITEMS[item])
