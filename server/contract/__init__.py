"""The on-disk vocabulary shared by server and optimizer. Standard library only."""
