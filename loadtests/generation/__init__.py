"""Generators beside each other: the work they are given, how they are run, what is said of it."""
