"""The centre: decides which site gets what, and when. Never polls a device, never closes a loop."""
