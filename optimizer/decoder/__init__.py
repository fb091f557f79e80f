"""From a checkpoint folder of a decoder to a version that generates: export, candidates, gates, steps, publishing."""
