"""A graph cut in the user's part, the items' part, and what is left for each pair."""
