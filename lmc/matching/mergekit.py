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

In the folder of the models: `mergekit-yaml mergekit-slerp.yml MERGED`. It averages what is aligned already; TIES and
DARE take the first model for the base of their differences.
"""

from pathlib import Path

METHODS = ("linear", "slerp", "ties", "dare_ties")


def configuration(method: str, count: int) -> str:
    """The text of a configuration that merges so many aligned models half way, or evenly."""
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
    return "\n".join([*lines, "dtype: float32"])


def write_configurations(folder: Path, count: int) -> None:
    """Write `mergekit-METHOD.yml` for every method into the folder of `count` aligned models; SLERP knows only two."""
    for method in METHODS:
        if method != "slerp" or count == 2:
            (folder / f"mergekit-{method}.yml").write_text(configuration(method, count) + "\n", encoding="utf8")
