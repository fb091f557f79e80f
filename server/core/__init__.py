"""The scheduler as a pure state machine: events in, actions out. No clock, no I/O, no threads, no tensors."""
