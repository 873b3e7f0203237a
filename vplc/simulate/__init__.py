"""A compiled program and a model of its plant in virtual time, with checks that say whether the loop does its work."""
