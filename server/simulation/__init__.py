"""The scheduler in virtual time: clients, devices and naive servers, all from a seed. No clock, no I/O; it is the same Scheduler."""
