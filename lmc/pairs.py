"""`python -m lmc.pairs NAME`: train a pair of independent endpoints, or train a shipped one again."""

import argparse
import sys
from pathlib import Path

from lmc.errors import LmcError
from lmc.reproduce.training import shipped_pairs


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lmc.pairs", description="Train two independent small models.")
    parser.add_argument("name", metavar="NAME", help=", ".join(shipped_pairs.names()))
    parser.add_argument(
        "--out", type=Path, default=shipped_pairs.SHIPPED, help="where the pair's folder goes: %(default)s"
    )
    arguments = parser.parse_args()
    try:
        print(shipped_pairs.train(arguments.name, arguments.out))
    except LmcError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
