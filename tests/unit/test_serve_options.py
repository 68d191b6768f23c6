"""Options of ``martlet serve`` that contradict each other are told apart before anything starts."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from martlet.cli import main
from martlet.cli.serve import bounds
from martlet.errors import InvalidInput
from martlet.fleet.scaling import Bounds


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("--workers 2 --workers-max 4", "not both"),
        ("--workers-min 2", "need --workers-max"),
        ("--target-p95-ms 50", "need --workers-max"),
        ("--workers-min 5 --workers-max 4", "--workers-min 5 is more than --workers-max 4"),
        ("--workers-max 4 --target-p95-ms -1", "must be 0 or more"),
        ("--workers-max 4 --shrink-s 0", "must be 0 or more, and --shrink-s more than 0"),
        ("--on-demand", "give it too"),
        ("--threads 0", "'--threads'"),
        ("--memory-mb -5", "'--memory-mb'"),
        ("--max-body-bytes 0", "'--max-body-bytes'"),
        ("--drain-s -1", "'--drain-s'"),
        ("--hang-s 0.1", "'--hang-s'"),
        ("--load-s 0", "'--load-s'"),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(tmp_path, options, why):
    model = tmp_path / "m.npz"
    found = CliRunner().invoke(main, ["serve", "--model", f"m={model}", *options.split()])
    assert found.exit_code == 2
    assert why in found.output


def test_the_number_of_workers_is_fixed_unless_a_most_is_given():
    assert bounds(None, None, None, 0.0, 30.0) is None
    assert bounds(3, None, None, 0.0, 30.0) is None
    assert bounds(None, None, 4, 50.0, 9.0) == Bounds(1, 4, 50.0, calm_s=9.0)
    with pytest.raises(InvalidInput):
        bounds(1, None, 4, 0.0, 30.0)
