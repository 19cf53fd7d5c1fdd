"""`python -m lmc` is `lmc`."""

import sys

from lmc.cli import main

sys.exit(main())
