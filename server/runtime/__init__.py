"""Around the pure core: the only threads, timers and futures of the server."""
