"""What runs inside the peers' environments: a server per peer, as its documentation would have it written."""
