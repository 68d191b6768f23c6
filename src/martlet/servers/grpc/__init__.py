"""gRPC: TensorFlow Serving's services and Open Inference's, on one port of each worker.

grpcio is imported when a door is made, in the worker: its threads do not survive a fork.
"""
