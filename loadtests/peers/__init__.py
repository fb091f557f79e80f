"""Other inference servers, each in an environment of its own, started and asked the same things as ferry."""
