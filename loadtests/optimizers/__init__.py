"""Other optimizers, to compare `ferry optimize` with: what their recipes do to a model, and ferry serving what comes out."""
