"""Offline: turns a PyTorch model or an ONNX file into a verified, measured version. The server never imports this."""
