"""All that workloads may share."""
