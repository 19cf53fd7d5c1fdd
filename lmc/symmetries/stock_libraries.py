"""timm and transformers, imported when they are needed, and one known clash between installed packages repaired.

>>> transformers().AutoModelForCausalLM.__name__
'AutoModelForCausalLM'
>>> timm().is_model("vit_tiny_patch16_224")
True

The clash: the package index offers torchvision for Linux built for CUDA only. Beside a CPU build of torch its compiled
half cannot load, and its import ends with "operator torchvision::nms does not exist", and with it the import of timm
and of every model class of transformers. Only box detection calls the two operators that are looked up there; all else
needs them to have a name, so they are declared. Nothing changes where torchvision fits torch, or fails otherwise.

`python -m lmc.symmetries.stock_libraries` repairs an environment for good, for programs that know nothing of `lmc`.
It copies this file, which therefore needs nothing of the package.
"""

import importlib
import sys
from typing import Any


def transformers() -> Any:
    """The library transformers; a model class of it imports torchvision, if that is installed."""
    repair()
    return importlib.import_module("transformers")


def timm() -> Any:
    """The library timm, which imports torchvision."""
    repair()
    return importlib.import_module("timm")


def repair() -> None:
    """Have this process repair the import of torchvision if it comes to that; loads neither torch nor torchvision."""
    if WATCH not in sys.meta_path:
        sys.meta_path.insert(0, WATCH)


class Watch:
    """Asked by `import` where a module is; it never knows, but learns which file of torchvision is about to run."""

    library: Any = None  # torch forgets the declarations with the object that made them

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "torchvision._meta_registrations":  # it looks the operators up
            self.declare()

    def declare(self) -> None:
        """Declare the operators, unless torchvision's compiled half or an earlier repair has."""
        import logging

        import torch

        if hasattr(torch.ops.torchvision, "nms"):
            return
        self.library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            self.library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        logging.getLogger(__name__).info("torchvision is built for CUDA, torch is not: declared nms and qnms")


WATCH = Watch()


def install() -> None:
    """Repair the environment that this Python belongs to, if torchvision needs it there.

    Two small files beside the installed packages call `repair` at every start of that Python, whatever program it runs.
    """
    import shutil
    import sysconfig
    from pathlib import Path

    repair()
    importlib.import_module("torchvision")
    if WATCH.library is None:
        print("torchvision fits torch: nothing to repair")
        return
    module = Path(sysconfig.get_path("purelib")) / "lmc_stock_libraries.py"
    shutil.copyfile(__file__, module)
    module.with_suffix(".pth").write_text(f"import {module.stem}; {module.stem}.repair()\n", encoding="utf-8")
    print(f"torchvision is built for CUDA, torch is not: repaired by {module} and {module.stem}.pth")


if __name__ == "__main__":
    install()
