"""Where a model comes from: a Python file that builds it, or a finished ONNX file."""
