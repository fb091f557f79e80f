"""What only a card can show, and tools for it. Every test here skips with the reason where there is none."""
