"""ferry's server: batches inference requests so that a stated latency objective is met."""

__version__ = "0.1.0"
