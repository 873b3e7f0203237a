"""The runtime for sites whose machines are nodes of a Kubernetes cluster.

objects   what the cluster is told of one instance (pure)
findings  what its answers say of one instance (pure)
client    the only module that knows the ``kubernetes`` package
mirror    list and watch: the cluster's objects as this agent last heard of them
runtime   ``agent.runtimes.base.Runtime``
"""
