"""Decision trees of every format: how they are built, how they lie in memory, how one walks them.

``questions`` are what a node may ask; ``builder`` makes a forest of them, its nodes in the
``order`` that a walk needs; ``forest`` evaluates it.
"""
