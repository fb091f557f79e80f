"""The gRPC front of the V2 protocol: messages ↔ requests. Like server.api it decides nothing about when a request runs."""
