"""The contract: everything that crosses a process or trust boundary."""
