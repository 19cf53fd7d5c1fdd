"""`import torchvision` where its build is for CUDA and torch's is not: two operators are declared that it looks up.

    >>> import lmc                                     # from here on, timm and transformers import

The package index offers torchvision for Linux built for CUDA only. Beside a CPU build of torch its compiled half cannot
load, and its import ends with "operator torchvision::nms does not exist", and with it the import of timm and of every
model class of transformers. Only box detection calls these operators; the others need them to have a name.

Importing this file, which `import lmc` does, loads neither torch nor torchvision and changes nothing where they fit:
it waits for the import of the file in torchvision that looks the operators up. This file needs nothing of the package,
since `install` copies it into an environment, for programs that do not import `lmc`.
"""

import sys
from typing import Any


class Declare:
    """Asked by `import` where a module is; it never knows, but sees the one name before whose import it must act."""

    library: Any = None  # torch forgets the declarations with the object that made them

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "torchvision._meta_registrations":
            self.declare()

    def declare(self) -> None:
        """Declare the operators unless torchvision's compiled half, or someone else, has."""
        import logging

        import torch

        if hasattr(torch.ops.torchvision, "nms"):
            return
        self.library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            self.library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        logging.getLogger(__name__).info("torchvision is built for CUDA, torch is not: declared nms and qnms")


finder = Declare()
sys.meta_path.insert(0, finder)


def install() -> None:
    """Make the repair part of the environment that this Python belongs to, if torchvision needs it there.

        python -c "from lmc.torchvision_fix import install; install()"

    Two small files beside the installed packages have it done at every start of that Python, whether or not the
    program imports `lmc`. Where torchvision fits torch nothing is written.
    """
    import shutil
    import sysconfig
    from pathlib import Path

    import torchvision  # noqa: F401  # with what was declared for it, if that was needed

    if finder.library is None:
        print("torchvision fits torch: nothing to repair")
        return
    module = Path(sysconfig.get_path("purelib")) / "lmc_torchvision_fix.py"
    shutil.copyfile(__file__, module)
    module.with_suffix(".pth").write_text(f"import {module.stem}\n", encoding="utf-8")
    print(f"torchvision is built for CUDA, torch is not: repaired by {module} and {module.stem}.pth")
