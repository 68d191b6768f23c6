"""TensorFlow's formats: SavedModel, Keras and TFLite."""
