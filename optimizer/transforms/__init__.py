"""One file per technique: a model file in, another model file with the same inputs and outputs out. Nothing here decides."""
