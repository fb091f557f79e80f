"""Black-box load tests over the wire. Nothing here imports `server` or `optimizer`."""
