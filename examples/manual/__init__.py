"""A small language model of Python's own manual, trained here in minutes on text that every machine with Python has."""
