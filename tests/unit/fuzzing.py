"""Bodies a few bytes away from others, and what two readers of one are held to."""

from __future__ import annotations


def assert_same_tensors(found, expected, body):
    """The same names in the same order, dtypes, shapes and bits."""
    assert list(found) == list(expected)
    for name, tensor in found.items():
        other = expected[name]
        assert (tensor.dtype, tensor.shape) == (other.dtype, other.shape), body
        if tensor.dtype == object:
            assert tensor.tolist() == other.tolist(), body
        else:
            assert tensor.tobytes() == other.tobytes(), body


def mutations(rng, body):
    """Yield bodies a few bytes away from *body*."""
    alphabet = b'[]{},:"\\ \n\t0123456789.-+eEnulltruefalsxNaInfity\x00\xff\x80\xc3\xa9'
    for _ in range(60):
        mutated = bytearray(body)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(mutated) + 1)
            match rng.randrange(5):
                case 0:
                    mutated[at : at + 1] = bytes([rng.choice(alphabet)])
                case 1:
                    mutated[at:at] = bytes([rng.choice(alphabet)])
                case 2:
                    del mutated[at : at + rng.randint(1, 3)]
                case 3:
                    begin = rng.randrange(len(mutated) + 1)
                    mutated[at:at] = mutated[begin : begin + rng.randint(1, 12)]
                case 4:
                    del mutated[at:]
            if not mutated:
                mutated = bytearray(body)
        yield bytes(mutated)
