"""Tests of the verbs that look at a version."""
