"""Several front-end processes on one port, one engine process behind them. Nothing here decides when a request runs."""
