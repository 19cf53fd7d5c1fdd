"""torchvision built for CUDA beside a torch that is not: repaired where lmc needs it, and for good in an environment.

All in fresh processes: the repair must come before the first import of torchvision.
"""

import os
import subprocess
import sys
from pathlib import Path

import pico
import pytest
import torch

import lmc

SAYS = "operator torchvision::nms does not exist"
# As in torchvision: the compiled half registers the operators, if it loads; then the lookup; then the rest.
PACKAGE = "import torch\nfrom . import extension, _meta_registrations, ops\n"
LOOKUP = '@torch.library.register_fake("torchvision::nms")\ndef nms(dets, scores, iou_threshold): ...\n'
DEFINED = """
import torch
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
LOGGED = "import logging; logging.basicConfig(level='INFO')\n"


def run(code: str, *path: Path) -> "subprocess.CompletedProcess[str]":
    """Run code in a Python that leaves out the files of its environment that end in .pth, so also an earlier repair."""
    places = [*path, Path(lmc.__file__).parents[1], *(p for p in sys.path if p.endswith("-packages"))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places))}
    return subprocess.run([sys.executable, "-S", "-c", code], env=environment, capture_output=True, text=True)


def fake_torchvision(folder: Path, extension: str = "", lookup: str = LOOKUP) -> Path:
    place = folder / "torchvision"
    place.mkdir()
    (place / "__init__.py").write_text(PACKAGE)
    (place / "extension.py").write_text(extension)
    (place / "_meta_registrations.py").write_text("import torch\n" + lookup)
    (place / "ops.py").write_text("")
    return folder


REPAIR = "from lmc.symmetries.stock_libraries import repair; repair(); repair()\n"


def test_the_repair_waits_and_loads_neither_torch_nor_torchvision() -> None:
    done = run(REPAIR + "import sys; print({'torch', 'torchvision', 'logging'} & sys.modules.keys())")
    assert done.stdout == "set()\n", done.stderr


def test_timm_and_transformers_import_here_whatever_torchvision_is_installed() -> None:
    done = run(LOGGED + "from lmc.symmetries import timm, transformers; timm(); transformers().GPTNeoXForCausalLM")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("torchvision is built for CUDA") <= 1  # logged once, if at all


def test_a_clash_is_repaired_and_logged_once(tmp_path: Path) -> None:
    path = fake_torchvision(tmp_path)
    assert SAYS in run("import torchvision", path).stderr
    done = run(LOGGED + REPAIR + "import torchvision, torch; torch.ops.torchvision.qnms", path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("torchvision is built for CUDA") == 1


def test_a_program_that_met_the_clash_before_can_go_on(tmp_path: Path) -> None:
    met = "try:\n    import torchvision\nexcept RuntimeError:\n    pass\n"
    done = run(met + REPAIR + "import torchvision", fake_torchvision(tmp_path))
    assert done.returncode == 0, done.stderr


def test_a_torchvision_that_fits_is_left_alone(tmp_path: Path) -> None:
    path = fake_torchvision(tmp_path, DEFINED)
    done = run(LOGGED + REPAIR + "import torchvision, torch; print(hasattr(torch.ops.torchvision, 'qnms'))", path)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
    assert "torchvision" not in done.stderr


def test_any_other_failure_is_shown_to_whoever_needs_torchvision(tmp_path: Path) -> None:
    path = fake_torchvision(tmp_path, "raise RuntimeError('another trouble')")
    assert run(REPAIR, path).returncode == 0
    assert "another trouble" in run(REPAIR + "import torchvision", path).stderr


INSTALL = """
import sysconfig
sysconfig.get_path = lambda name: {folder!r}
from lmc.symmetries.stock_libraries import install; install()
"""


def test_it_is_installed_where_it_is_needed(tmp_path: Path) -> None:
    """The files do it alone: the Python that reads them as its site-packages cannot import lmc."""
    (site := tmp_path / "site").mkdir()
    path = fake_torchvision(tmp_path)
    done = run(INSTALL.format(folder=str(site)), path)
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in site.iterdir()) == ["lmc_stock_libraries.pth", "lmc_stock_libraries.py"]
    fresh = f"import sys; sys.modules['lmc'] = None\nimport site; site.addsitedir({str(site)!r})\n"
    fresh += "loaded = 'torch' in sys.modules\nimport torchvision\nprint(loaded)"
    done = run(fresh, path)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
    again = run(f"import site; site.addsitedir({str(site)!r})\n" + INSTALL.format(folder=str(site)), path)
    assert again.returncode == 0 and "repaired by" in again.stdout  # and is brought up to date


def test_and_not_where_it_is_not(tmp_path: Path) -> None:
    (site := tmp_path / "site").mkdir()
    done = run(INSTALL.format(folder=str(site)), fake_torchvision(tmp_path, DEFINED, ""))
    assert (done.returncode, done.stdout, list(site.iterdir())) == (
        0,
        "torchvision fits torch: nothing to repair\n",
        [],
    )


STOCK = """
import sys
sys.modules["lmc"] = None  # cannot be imported
import timm
from transformers import AutoModelForCausalLM, GPTNeoXForCausalLM
assert type(AutoModelForCausalLM.from_pretrained("text", local_files_only=True)) is GPTNeoXForCausalLM
assert timm.create_model("local-dir:images", pretrained=True).num_classes == 10
"""


def test_the_environment_that_make_makes_is_whole(root: Path, tmp_path: Path) -> None:
    """There, a Python that knows nothing of lmc imports the stock libraries and loads merged models."""
    if Path(sys.prefix) != root / ".venv":
        pytest.skip(f"these tests run in {sys.prefix}, not in the {root / '.venv'} that `make install` makes")
    for name, make in (("text", pico.neox), ("images", pico.vit)):
        endpoints = [make(seed, torch.float32) for seed in (0, 1)]
        lmc.save(lmc.match(*endpoints, method="naive").merge(0.5), tmp_path / name)
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", STOCK], cwd=tmp_path, env=bare, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
