"""The Open Inference Protocol v2: JSON, binary tensors and protobuf contents."""
