"""Sessions on inference libraries: one file per library, and a scripted one for tests."""
