"""`python -m vplc`: the compiler's only door for people and other tools."""

import sys

from vplc.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
