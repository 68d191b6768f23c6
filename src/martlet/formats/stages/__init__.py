"""What a pipeline is, whoever wrote it down: columns, the stages between them, and their plan.

Spark ML and MLeap (and whatever else chains feature stages) read their files into these. A stage
is a pure function of whole columns; a plan runs a list of them and is a servable.
"""
