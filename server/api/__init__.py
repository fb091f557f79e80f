"""The wire: bytes ↔ requests. Nothing here decides when or with whom a request runs."""
