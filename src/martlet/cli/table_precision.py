"""``martlet table precision``: what fewer bits a row would cost the ranking, and save."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from martlet.cli.options import json_option, root_option
from martlet.cli.output import print_json, print_table, size
from martlet.cli.table_opening import open_table
from martlet.errors import InvalidInput


@click.command("precision")
@click.argument("name")
@click.option("--queries", metavar="TABLE", help="The table of query vectors.  [default: NAME]")
@click.option(
    "--count", type=click.IntRange(1), default=200, show_default=True, help="How many queries."
)
@click.option(
    "-k", type=click.IntRange(1), default=10, show_default=True, help="How many rows a list shows."
)
@root_option
@json_option
def precision(
    name: str, queries: str | None, count: int, k: int, root: Path, as_json: bool
) -> None:
    """Measure what float16 and int8 rows would do to the ranking.

    Each query ranks all rows twice: by the vectors as they are, and as the precision stores them.
    Overlap: how much of the first k stays. NDCG: of the new list, with gains from the places in the
    old one. Spearman: rank correlation over the old list's first thousand.

    \b
    Examples:
      martlet table precision item_vectors --queries user_vectors -k 100
      martlet table compact item_vectors --precision int8
    """
    from martlet.retrieval.precision import compare_precisions, sample

    found = open_table(name, root)
    asking = found if queries is None else open_table(queries, root)
    if asking.dim != found.dim:
        raise InvalidInput(f"{queries} has {asking.dim} dimensions, and {name} {found.dim}")
    damage = compare_precisions(found, sample(asking, count), k=k)
    if as_json:
        print_json([asdict(each) for each in damage])
        return
    print_table(
        [
            "precision",
            "#size",
            "#overlap",
            "#NDCG",
            "#Spearman",
            "#error",
            "#of score",
            "#us",
        ],
        [
            (
                each.precision,
                size(each.bytes),
                f"{each.overlap:.4f}",
                f"{each.ndcg:.5f}",
                f"{each.spearman:.5f}",
                f"{each.largest_error:.2g}",
                f"{each.score_error:.2g}",
                f"{each.gather_us:.1f}",
            )
            for each in damage
        ],
        title=f"{name}: the first {k} of {len(found)} rows, us to gather 200",
    )
