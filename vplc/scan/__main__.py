"""`python -m vplc.scan`: the scan host's door for people and other tools."""

import sys

from vplc.scan.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
