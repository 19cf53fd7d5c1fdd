"""One known clash between installed packages, repaired where it happens."""

import logging
import sys

log = logging.getLogger(__name__)

_kept: list[object] = []  # the declarations vanish from torch with the object that made them


def ensure_torchvision() -> None:
    """Make `import torchvision` work where a CUDA build of it meets a CPU-only torch.

    >>> ensure_torchvision()                           # before timm or transformers are imported
    >>> import timm

    There its import fails with "operator torchvision::nms does not exist", since its compiled half cannot load, and so
    do timm and every model class of transformers. Declaring the two operators that it registers shapes for is enough.
    Nothing happens where torchvision imports, is absent, or fails in any other way: whoever needs it sees that error.
    """
    if "torchvision" in sys.modules:
        return
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return
    except RuntimeError as error:
        if "operator torchvision::nms does not exist" not in str(error):
            return
        _declare_operators()


def _declare_operators() -> None:
    import torch

    for name in [name for name in sys.modules if name == "torchvision" or name.startswith("torchvision.")]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "FRAGMENT")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _kept.append(library)
    import torchvision  # noqa: F401

    log.info(
        "torchvision's compiled operators do not fit this torch (CPU-only); declared nms and qnms so that it imports"
    )
