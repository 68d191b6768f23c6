"""What a model may be asked: what its inputs hold, and rows drawn, logged, at edges and jumps."""
