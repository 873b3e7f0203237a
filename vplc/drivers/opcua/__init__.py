"""OPC UA client (OPC 10000-4): subscribed variables as inputs, written ones as outputs."""
