"""``python -m macebench``."""

import sys

from macebench.cli import main

if __name__ == "__main__":
    sys.exit(main())
