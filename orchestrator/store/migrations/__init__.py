"""Schema versions, applied in order when the orchestrator starts."""
