"""Engines for one NVIDIA card, built from .onnx files: for which shapes, and how."""
