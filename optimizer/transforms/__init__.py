"""Steps that make another model file of an exported one. Each reads one file and writes one; whether it is any good is not asked here."""
