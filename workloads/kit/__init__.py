"""The runtime every workload uses: who am I, how do samples leave, how do I tell that I am well.

    context     what the agent says about this instance, and its configuration as frozen types
    samples     the tags of a stream: last values, quality, report by exception
    batcher     samples into blocks
    outbox      numbered frames until they are acknowledged (decisions only)
    publisher   the bus to the agent
    live        last values to the site's MQTT broker
    service     the frame of a process: signals, heartbeats, orderly end

A workload never waits for the agent, the centre or the broker: what cannot leave is kept under a cap, and what must
be dropped is counted. Nothing here writes to a device.
"""
