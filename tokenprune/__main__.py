"""`python -m tokenprune`, the same as the command `tokenprune`."""

import sys

from tokenprune.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
