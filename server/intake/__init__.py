"""What a model file must pass before it becomes a version: inspection, checks, latency profile. Shared with the optimizer."""
