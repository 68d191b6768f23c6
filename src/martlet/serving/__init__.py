"""Answering: which version answers, and one door to ask it."""
