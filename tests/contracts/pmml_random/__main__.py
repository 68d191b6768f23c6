"""Make documents, ask both engines, print what differs; what is known to is counted.

python -m pmml_random [--kinds tree chain] [--documents 200] [--seed 7] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

from pmml_random.compare import STEP, STEP32, departure, difference, lazier
from pmml_random.documents import KINDS, Document, document
from pmml_random.ours import Ours, UnsupportedModel, alone_in_median, is_endless
from pmml_random.reference import Reference, Refusal


def differences(made: Document, path: Path, known: Counter[str]) -> tuple[str, list[str]]:
    """
    Return how the comparison went (a word), and each row that differs.

    Args:
        known: Counts, by the reason, the rows in which the reference departs.
    """
    path.write_text(made.text, encoding="utf-8")
    try:
        theirs = Reference(path)
    except Refusal as exc:
        theirs, refused = None, str(exc)
    try:
        ours = Ours(path)
    except UnsupportedModel as exc:
        if theirs is None or all(isinstance(theirs.answer(row), str) for row in made.rows):
            return "refused by both", []
        return "differs", [f"does not load: {exc}"]
    found = []
    together = ours.together(made.rows)
    step = STEP32 if 'float"' in made.text else STEP
    for place, row in enumerate(made.rows):
        alone = ours.alone(row)
        gap = difference(alone, together[place], 1e-12 if step == STEP else 1e-6)
        if gap is not None:
            found.append(f"row {place} {row}: alone and together: {gap}")
        if theirs is not None:
            wanted = theirs.answer(row)
            gap = difference(together[place], wanted, step)
            if gap is None:
                continue
            why = departure(together[place], wanted, step)
            why = why or lazier(together[place], wanted, made.text)
            if why is None and is_endless(made.text, row, path.with_suffix(".computed.pmml")):
                why = "a computed field is infinite: a zero has no sign there"
            one = path.with_suffix(".segment.pmml")
            if why is None and any(
                difference(each, wanted, step) is None
                for each in alone_in_median(made.text, row, one)
            ):
                why = "a median of two in the middle: rounding leaves one of them there"
            if why is None:
                found.append(f"row {place} {row}: {gap}")
            else:
                known[why] += 1
    if theirs is None:
        return ("differs", found) if found else (f"refused by the reference: {refused}", [])
    return ("differs", found) if found else ("agrees", [])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="*", default=["expressions", *KINDS])
    parser.add_argument("--documents", type=int, default=50, help="of each kind")
    parser.add_argument("--seed", type=int, default=0, help="of the first; the rest count on")
    parser.add_argument("--keep", type=Path, help="where documents that differ are left")
    parser.add_argument("--rows", type=int, default=2, help="shown of a document that differs")
    arguments = parser.parse_args()
    differing, known = 0, Counter[str]()
    folder = arguments.keep or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    for kind in arguments.kinds:
        counts: Counter[str] = Counter()
        for seed in range(arguments.seed, arguments.seed + arguments.documents):
            path = folder / f"{kind}-{seed}.pmml"
            how, rows = differences(document(kind, seed), path, known)
            counts[how] += 1
            if rows:
                differing += 1
                print(f"{kind} {seed}: {len(rows)} differ")
                for row in rows[: arguments.rows]:
                    print(f"    {row[:600]}")
            else:
                path.unlink()
        print(
            f"{kind}: " + ", ".join(f"{count} {how}" for how, count in counts.most_common(6)),
            flush=True,
        )
    for why, count in known.most_common():
        print(f"known, and no failure: {count} rows: {why}")
    sys.exit(1 if differing else 0)


if __name__ == "__main__":
    main()
