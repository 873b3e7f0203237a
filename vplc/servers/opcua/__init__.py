"""OPC UA with the PLCopen information model (OPC 30000, version 1.02) over a running program."""
