"""The options of the commands: what each is called, what it takes, and its line of help."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lmc.cli.asked import CORPUS
from lmc.cli.numbers import count, places, real
from lmc.matching import METHODS

TAKEN = "Whose tokenizer, chat template and stop tokens merged language models get: first, second, …"
Model = Annotated[str, typer.Argument(help="A folder in the stock layout, or a hub name (name@revision).")]
Models = Annotated[list[str], typer.Argument(help="Folders in the stock layout, or hub names (name@revision).")]
Aligned = Annotated[Path, typer.Argument(help="An alignment folder, made by lmc match.")]
Out = Annotated[Path, typer.Option(help="A new folder.")]
Data = Annotated[str | None, typer.Option(help=f"The corpus: {CORPUS}.")]
Limit = Annotated[int | None, count("Use at most that many windows or images.")]
Device = Annotated[str | None, typer.Option(help="Where to compute: cpu, cuda, …")]
Dtype = Annotated[str | None, typer.Option(help="float32, bfloat16, …; as stored but at least float32 by default.")]
Seed = Annotated[int, count("Decides every random choice.", 0, 2**32 - 1)]
Method = Annotated[str, typer.Option(help=f"{', '.join(METHODS)}.")]
Steps = Annotated[int, count("Steps of learned matching.")]
Rate = Annotated[
    float | None,
    typer.Option(parser=real, metavar="FLOAT", help="Learning rate (default: the method's, lower for wide models)."),
]
Batch = Annotated[int | None, count("Windows or images in a step.")]
Accumulate = Annotated[int, count("Parts a batch is cut into, to need less memory.")]
Precision = Annotated[str, typer.Option(help="Of learning's matrix products: float32 or bfloat16.")]
Checkpointing = Annotated[bool, typer.Option("--checkpointing", help="Compute activations twice, keep none.")]
LOOKS = "Stop after that many checks (every 50 steps) without a better midpoint."
Patience = Annotated[int | None, count(LOOKS)]
LAMBDAS = (
    "Where on the line learning looks: LOW,HIGH around the middle for a good average (0.3,0.7 by default), or highest "
    "for the place with the most loss, over 1,000 steps and more."
)
Lambdas = Annotated[Any, typer.Option(parser=places, metavar="LOW,HIGH", help=LAMBDAS)]
Shard = Annotated[bool, typer.Option("--shard", help="Under torchrun: slices of weights, for big models.")]
FREQUENCY = "Method weights: count embeddings by their tokens in --data."
ByFrequency = Annotated[bool, typer.Option("--by-frequency", help=FREQUENCY)]
VOCABULARY = "Where tokens differ, the vocabulary that all are brought to: first, second, union or common."
Vocabulary = Annotated[str | None, typer.Option(help=VOCABULARY)]
START = "Where learning begins: weights (the default), activations, better (of these), canonical or an alignment."
Start = Annotated[str | None, typer.Option(help=START)]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")]
ENDS = "Compute first whether both ends of the path are the parents; --no-verify saves that time."
LEFT_OUT = f"{ENDS[:-1]}, and does not measure what rounding does."
Verify = Annotated[bool, typer.Option("--verify/--no-verify", help=ENDS)]
Export = Annotated[bool, typer.Option("--export", help="Also write the aligned models, as OUT/models.")]
