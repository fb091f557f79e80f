"""Other people's generators, each run in an environment of its own by a program that speaks `talk`: they may import what we do not."""
