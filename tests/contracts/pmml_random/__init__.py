"""PMML documents made at random, scored by martlet and by JPMML-Evaluator, cell by cell.

``make pmml-random`` runs it (Java is needed). A seed makes the same document again; what differs
is printed with its seed and kept as a file. Where the two are meant to differ is no draw, or is
said in ``compare``.
"""
