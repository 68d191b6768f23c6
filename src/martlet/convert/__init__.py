"""Bringing a model online: audit it, convert it, and prove that the result answers the same.

Nothing here is imported while serving: it runs when a model is imported.
"""
