"""Verbs that look at a published version: gate, diff, profile, estimate."""
