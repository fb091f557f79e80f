"""Tests of the engine builder."""
