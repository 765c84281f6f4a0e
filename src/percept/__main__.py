"""`python -m percept`: the same as the command `percept`."""

import sys

from percept.cli import main

if __name__ == "__main__":
    sys.exit(main())
