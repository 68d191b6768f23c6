"""The recommender: candidates, filters, features, ranking, re-ranking, from one declaration."""
