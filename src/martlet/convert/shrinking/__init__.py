"""Smaller nets: the ways to make one, tried side by side."""
