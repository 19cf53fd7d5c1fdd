"""Aligned models into mergekit, another tool: a ready configuration for each of its methods, beside the models.

>>> print(configuration("slerp", 2))
merge_method: slerp
base_model: ./endpoint-0
models:
- model: ./endpoint-0
- model: ./endpoint-1
parameters:
  t: 0.5
dtype: float32

In the folder of the models: `mergekit-yaml mergekit-slerp.yml ../../merged`. It averages what is aligned already; TIES
and DARE take the first model for the base of their differences, and TIES divides by the weights: with two models it
adds the larger half of the differences whole.
"""

from pathlib import Path

import torch

METHODS = ("linear", "slerp", "ties", "dare_ties")


def configuration(method: str, count: int, dtype: str = "float32") -> str:
    """The text of a configuration that merges so many aligned models half way, or evenly, into that type."""
    lines = [f"merge_method: {method}"]
    lines += [] if method == "linear" else ["base_model: ./endpoint-0"]
    lines.append("models:")
    for k in range(count):
        lines.append(f"- model: ./endpoint-{k}")
        if method != "slerp" and (k or method == "linear"):
            density = [] if method == "linear" else ["    density: 0.5"]
            lines += ["  parameters:", f"    weight: {1 / count:.6g}", *density]
    if method == "slerp":
        lines += ["parameters:", "  t: 0.5"]
    return "\n".join([*lines, f"dtype: {dtype}"])


def configurations(count: int, dtype: str = "float32") -> dict[str, str]:
    """The text of `mergekit-METHOD.yml` for every method, by its name; SLERP knows only two models."""
    methods = [method for method in METHODS if method != "slerp" or count == 2]
    return {f"mergekit-{method}.yml": configuration(method, count, dtype) + "\n" for method in methods}


def write_configurations(folder: Path, count: int, dtype: torch.dtype) -> None:
    """Write all of them into the folder of `count` aligned models; they merge into these models' type, or float32."""
    kind = torch.promote_types(dtype, torch.float32)
    for name, text in configurations(count, str(kind).removeprefix("torch.")).items():
        (folder / name).write_text(text, encoding="utf8")
