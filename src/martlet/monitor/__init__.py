"""After the answer: what was counted."""
