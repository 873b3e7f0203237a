"""Running compiled programs on this machine: virtual clock, tests, measurements."""
