"""The torchvision repair, in fresh processes: it must be the first to import."""

import os
import subprocess
import sys
from pathlib import Path

CLASH = """
import torch
from torchvision import _half  # imported before the failure, so left behind by it
@torch.library.register_fake("torchvision::nms")
def nms(dets, scores, iou_threshold): ...
"""


def run(code: str, *path: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    prelude = "import logging; logging.basicConfig(level='INFO')\n"
    prelude += "from lmc.symmetries.stock_libraries import ensure_torchvision\n"
    return subprocess.run([sys.executable, "-c", prelude + code], env=environment, capture_output=True, text=True)


def fake_torchvision(folder: Path, code: str) -> Path:
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(code)
    (folder / "torchvision" / "_half.py").write_text("")
    return folder


def test_timm_and_transformers_import_here_whatever_torchvision_is_installed():
    code = "ensure_torchvision(); ensure_torchvision(); import timm; from transformers import GPTNeoXForCausalLM"
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("lmc.symmetries.stock_libraries") <= 1  # logged once, if at all


def test_a_clash_is_repaired_and_logged_once(tmp_path):
    path = fake_torchvision(tmp_path, CLASH)
    assert "operator torchvision::nms does not exist" in run("import torchvision", path).stderr
    done = run(
        "ensure_torchvision(); ensure_torchvision(); import torch, torchvision; torch.ops.torchvision.qnms", path
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("lmc.symmetries.stock_libraries") == 1


def test_a_healthy_torchvision_is_left_alone(tmp_path):
    path = fake_torchvision(tmp_path, "")
    done = run("ensure_torchvision(); import torch; print(hasattr(torch.ops.torchvision, 'nms'))", path)
    assert (done.returncode, done.stdout, "lmc.symmetries.stock_libraries" in done.stderr) == (0, "False\n", False), (
        done.stderr
    )


def test_any_other_failure_is_left_to_whoever_needs_torchvision(tmp_path):
    path = fake_torchvision(tmp_path, "raise RuntimeError('another trouble')")
    assert run("ensure_torchvision()", path).returncode == 0
    assert "another trouble" in run("ensure_torchvision(); import torchvision", path).stderr
