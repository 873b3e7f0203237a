"""`python -m vplc.servers {opcua|modbus} RUNFOLDER SERVER.json`."""

import sys

from vplc.servers.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
