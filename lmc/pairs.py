"""`python -m lmc.pairs NAME`: train a pair of independent endpoints, or train a shipped one again."""

import argparse
import sys
from pathlib import Path

from lmc.reproduce.training import shipped_pairs
from lmc.reproduce.training.budget import command


@command
def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lmc.pairs", description="Train two independent small models.")
    parser.add_argument("name", metavar="NAME", help=", ".join(shipped_pairs.names()))
    parser.add_argument(
        "--out", type=Path, default=shipped_pairs.SHIPPED, help="where the pair's folder goes: %(default)s"
    )
    arguments = parser.parse_args()
    print(shipped_pairs.train(arguments.name, arguments.out))


if __name__ == "__main__":
    sys.exit(main())
