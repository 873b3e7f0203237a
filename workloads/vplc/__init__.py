"""The virtual PLC as a workload: one signed program on the scan host, its drivers and servers, what the platform sees.

Scan host, drivers and servers are `vplc` and work without the platform; here is only what joins them to agent, broker
and run context. In the container a small program in C (`native/keeper.c`) starts them side by side, so that none of
them, this telemetry included, can take the scan with it.
"""
