"""Rollouts: moving a fleet to a generation, wave by wave, each wave proven by health and data before the next."""
