"""A model in a process of its own: what may end it, or run code, ends and reaches that alone."""
