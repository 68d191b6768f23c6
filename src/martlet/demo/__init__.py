"""The offline half of the main job: data, a split by time, training, and plain files to serve."""
