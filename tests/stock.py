"""What a saved model computes for someone who has only the stock library."""

import subprocess
import sys
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from lmc.symmetries import stock_libraries

# Reads a checkpoint with the stock library in a process that cannot import lmc, and stores its logits.
STOCK = """
import pathlib, sys
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "lmc" or name.startswith("lmc."):
            raise ImportError("lmc is hidden")
sys.meta_path.insert(0, Hide())
import torch
from safetensors.torch import load_file, save_file
libraries = {"__name__": "stock_libraries"}
exec(pathlib.Path(sys.argv[3]).read_text(), libraries)  # this one file needs nothing of lmc
libraries["repair"]()
folder, kind = sys.argv[1:3]
inputs = load_file(folder + "-inputs.safetensors")["inputs"]
if kind == "timm":
    import timm
    model = timm.create_model("local-dir:" + folder, pretrained=True).float().eval()
else:
    from transformers import AutoModelForCausalLM
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32).eval()
with torch.no_grad():
    out = model(inputs)
out = out if isinstance(out, torch.Tensor) else out.logits
save_file({"logits": out.contiguous()}, folder + "-logits.safetensors")
"""


def logits(folder: Path, inputs: Tensor) -> Tensor:
    """The logits of a saved model, computed in float32 in a process without lmc."""
    save_file({"inputs": inputs}, f"{folder}-inputs.safetensors")
    kind = "timm" if inputs.is_floating_point() else "transformers"
    command = [sys.executable, "-c", STOCK, str(folder), kind, stock_libraries.__file__]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return load_file(f"{folder}-logits.safetensors")["logits"]
