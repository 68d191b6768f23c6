"""Doors: HTTP and gRPC. The only rooms that know sockets."""
