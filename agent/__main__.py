"""``python -m agent``: the agent's one door."""

import sys

from agent.cli import main

if __name__ == "__main__":
    sys.exit(main())
