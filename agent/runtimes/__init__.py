"""The machines an agent can run workloads on, behind one Protocol (``base``)."""
