"""Tries candidates for a model, graph by graph and backend by backend, and ends in one decision with its reasons."""
