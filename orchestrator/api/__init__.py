"""The orchestrator's HTTP interfaces: the operator's REST and event stream, and the agents' line."""
