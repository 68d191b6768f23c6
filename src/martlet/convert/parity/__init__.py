"""Are two models equal: compared over probes, by the limits of a certificate."""
