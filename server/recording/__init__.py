"""What the scheduler was told and what it decided, as lines of a file: written, read, replayed, explained. No clock, no network."""
