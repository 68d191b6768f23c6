"""TensorFlow Serving's dialect: JSON, protobuf tensors and text-format configuration."""
