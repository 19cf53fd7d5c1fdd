"""What to expect of two checkpoints of one's own, as a table: barriers that were measured."""

from pathlib import Path
from statistics import mean

from lmc.reproduce import results

FAMILIES = Path(__file__).resolve().parents[1] / "families.md"
# Experiments that say of each match how long it took. Names as the reader knows them, not those of the settings, and
# the class of the models.
TRAINED = {
    "pythia-wikipedia": ("Pythia's architecture, Wikipedia", "GPTNeoXForCausalLM"),
    "olmo-wikipedia": ("OLMo's architecture, Wikipedia", "OlmoForCausalLM"),
    "gpt2-shakespeare": ("GPT-2, Tiny Shakespeare", "GPT2LMHeadModel"),
    "vit-cifar10": ("ViT, CIFAR-10", "VisionTransformer"),
    "cifar10-128": ("ViT, CIFAR-10, better trained", "VisionTransformer"),
    "cifar10-192": ("ViT, CIFAR-10, better trained, one pair", "VisionTransformer"),
    "vit-tiny-imagenet": ("ViT, Tiny ImageNet", "VisionTransformer"),
    "tiny-imagenet-128": ("ViT, Tiny ImageNet, better trained, one pair", "VisionTransformer"),
}


def expect_table(folder: Path) -> None:
    """`expect-barrier.md` in the folder."""
    (folder / "expect-barrier.md").write_text("\n".join(_barriers()) + "\n", encoding="utf-8")


def _barriers() -> list[str]:
    measured = "naive | dual | left of naive | midpoint − better parent | steps | seconds"
    columns = f"layers × channels | may be rewritten | {measured}"
    rows = [f"| model | {columns} |", "|---|---|---|---|---|---|---|---|---|"]
    for id, (name, kind) in TRAINED.items():
        found = results.read(id, "laptop")
        compared = found.comparison
        setting, dual, naive = compared.rest["setting"], compared.summary["dual"], compared.mean("naive")
        shape = f"{setting['shape']['layers']} × {setting['shape']['width']}"
        took = mean(pair["dual"]["seconds"] for pair in found.run["costs"]["matching"].values())
        numbers = f"{naive:.2f} | {dual.barrier:.3f} | {dual.ratio:.1%} | {dual.gap:+.3f}"
        rows.append(f"| {name} | {shape} | {aligned(kind)} | {numbers} | {setting['matching']['steps']} | {took:.0f} |")
    return rows


def aligned(kind: str) -> str:
    """The spaces of a class that may be rewritten, by the book's table of families.

    >>> aligned("GPT2LMHeadModel")
    'stream, scale, head, qk, value, hidden'
    """
    rows = [line.split(" | ") for line in FAMILIES.read_text(encoding="utf-8").splitlines()]
    moved = next(row[1] for row in rows if len(row) == 3 and f"`{kind}`" in row[0])
    return ", ".join(one.partition(":")[0] for one in moved.split("<br>"))
