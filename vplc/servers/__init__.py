"""Servers beside a running program: OPC UA with the PLCopen information model, and Modbus TCP.

Each is an ordinary process that reads the scan host's variables through its watch and writes through its access; none
of them can hold up a scan. They know nothing of the compiler, and serve whatever runs in the run folder.
"""
