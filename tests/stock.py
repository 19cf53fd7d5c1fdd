"""What a saved model computes for someone who has only the stock library."""

import atexit
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from lmc.symmetries import stock_libraries

# Reads checkpoints with the stock library in a process that cannot import lmc, and stores their logits: for every line
# of its input, which names a folder and a library.
STOCK = """
import json, pathlib, sys, traceback
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "lmc" or name.startswith("lmc."):
            raise ImportError("lmc is hidden")
sys.meta_path.insert(0, Hide())
import torch
from safetensors.torch import load_file, save_file
libraries = {"__name__": "stock_libraries"}
exec(pathlib.Path(sys.argv[1]).read_text(), libraries)  # this one file needs nothing of lmc
libraries["repair"]()

def compute(folder, kind):
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

answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
for line in sys.stdin:
    try:
        compute(*json.loads(line))
        said = ""
    except Exception:
        said = traceback.format_exc()
    print(json.dumps(said), file=answers, flush=True)
"""


def logits(folder: Path, inputs: Tensor) -> Tensor:
    """The logits of a saved model, computed in float32 in a process without lmc."""
    save_file({"inputs": inputs}, f"{folder}-inputs.safetensors")
    process = _process()
    assert process.stdin and process.stdout
    print(json.dumps([str(folder), "timm" if inputs.is_floating_point() else "transformers"]), file=process.stdin)
    process.stdin.flush()
    said = json.loads(process.stdout.readline())
    assert said == "", said
    return load_file(f"{folder}-logits.safetensors")["logits"]


@cache
def _process() -> "subprocess.Popen[str]":
    """One for all models: importing the libraries takes longer than all else."""
    command = [sys.executable, "-c", STOCK, stock_libraries.__file__]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.communicate)
    return process
