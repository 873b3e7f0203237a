"""``./run demo``: a centre, two plants and their machines on this computer, built only from what a user has."""
