"""What runs in the optimizers' own environments: nothing of ferry may be imported here, and these files import nothing of each other."""
