"""The OPC UA translator: subscribed variables of servers into tags. It only ever reads."""
