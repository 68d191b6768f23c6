"""CityHash64, by which CatBoost knows a category: only 32 bits of it are kept, never the text."""

from __future__ import annotations

_MASK = (1 << 64) - 1
_K0, _K1, _K2, _K3 = (
    0xC3A5C85C97CB3127,
    0xB492B66FBE98F273,
    0x9AE16A3B2F90404F,
    0xC949D7C7509E6557,
)
_MIX = 0x9DDFEA08EB382D69
_UNMIX = pow(_MIX, -1, 1 << 64)


def cityhash64(text: bytes) -> int:
    """
    Return the hash of *text*, 64 bits without a sign.

    Source:
        CityHash 1.0 (Pike, Alakuijala; Google, 2011). Later versions hash some lengths otherwise.

    >>> hex(cityhash64(b""))
    '0x9ae16a3b2f90404f'
    """
    size = len(text)
    if size <= 16:
        return _short(text, size)
    if size <= 32:
        a, b = _word(text, 0) * _K1 & _MASK, _word(text, 8)
        c, d = _word(text, size - 8) * _K2, _word(text, size - 16) * _K0
        return _pair(_turned(a - b, 43) + _turned(c, 30) + d, a + _turned(b ^ _K3, 20) - c + size)
    return _middle(text, size) if size <= 64 else _long(text, size)


def category_hash(text: bytes) -> int:
    """Return the low 32 bits, with a sign: CatBoost's number of a category."""
    low = cityhash64(text) & 0xFFFFFFFF
    return low - (low >> 31 << 32)


def text_of(number: int) -> bytes:
    """
    Return 16 bytes whose `category_hash` is *number*.

    >>> category_hash(text_of(-123))
    -123
    """
    # The hash of 16 bytes mixes its first half, its second half turned, and the second half: with
    # any second half, each step can be taken back.
    second = b"category"
    last = int.from_bytes(second, "little")
    turned = _turned(last + 16, 16)
    mixed = _shifted(((number & 0xFFFFFFFF) ^ last) * _UNMIX & _MASK)
    mixed = mixed * _UNMIX & _MASK ^ turned
    mixed = _shifted(mixed) * _UNMIX & _MASK
    mixed ^= turned
    return mixed.to_bytes(8, "little") + second


def _short(text: bytes, size: int) -> int:
    if size > 8:
        first, last = _word(text, 0), _word(text, size - 8)
        return _pair(first, _turned(last + size, size)) ^ last
    if size >= 4:
        return _pair(size + (_half(text, 0) << 3), _half(text, size - 4))
    if size == 0:
        return _K2
    low = text[0] + (text[size >> 1] << 8)
    high = size + (text[-1] << 2)
    return _shifted(low * _K2 & _MASK ^ high * _K3 & _MASK) * _K2 & _MASK


def _middle(text: bytes, size: int) -> int:
    first = _two_of_32(text, 0, 24, _word(text, 0) + (size + _word(text, size - 16)) * _K0)
    start = size - 32
    second = _two_of_32(text, start, size - 8, _word(text, 16) + _word(text, start))
    mixed = _shifted(((first[0] + second[1]) * _K2 + (second[0] + first[1]) * _K0) & _MASK)
    return _shifted((mixed * _K0 + first[1]) & _MASK) * _K2 & _MASK


def _two_of_32(text: bytes, at: int, last: int, a: int) -> tuple[int, int]:
    """Return two words of the 32 bytes at *at*, whose last word stands at *last*."""
    z = _word(text, last)
    b, c = _turned(a + z, 52), _turned(a, 37)
    a += _word(text, at + 8)
    c += _turned(a, 7)
    a += _word(text, at + 16)
    return (a + z) & _MASK, (b + _turned(a, 31) + c) & _MASK


def _long(text: bytes, size: int) -> int:
    x, y, z = _word(text, 0), _word(text, size - 16) ^ _K1, _word(text, size - 56) ^ _K0
    v = _weak(text, size - 64, size, y)
    w = _weak(text, size - 32, size * _K1, _K0)
    z = z + _shifted(v[1]) * _K1 & _MASK
    x = _turned(z + x, 39) * _K1
    y = _turned(y, 33) * _K1 & _MASK
    for at in range(0, (size - 1) & ~63, 64):
        x = _turned(x + y + v[0] + _word(text, at + 16), 37) * _K1 & _MASK
        y = _turned(y + v[1] + _word(text, at + 48), 42) * _K1 & _MASK
        x ^= w[1]
        y ^= v[0]
        z = _turned(z ^ w[0], 33)
        v = _weak(text, at, v[1] * _K1, x + w[0])
        w = _weak(text, at + 32, z + w[1], y)
        z, x = x, z
    low = _pair(v[0], w[0]) + _shifted(y) * _K1 + z
    return _pair(low, _pair(v[1], w[1]) + x)


def _weak(text: bytes, at: int, a: int, b: int) -> tuple[int, int]:
    """Return two words of the 32 bytes at *at*, and of *a* and *b*."""
    w, x, y, z = (_word(text, at + 8 * i) for i in range(4))
    a += w
    b = _turned(b + a + z, 21)
    c = a
    a += x + y
    b += _turned(a, 44)
    return (a + z) & _MASK, (b + c) & _MASK


def _pair(low: int, high: int) -> int:
    """Return the hash of 16 bytes: of two words."""
    mixed = _shifted((low ^ high) * _MIX & _MASK)
    return _shifted((high ^ mixed) * _MIX & _MASK) * _MIX & _MASK


def _word(text: bytes, at: int) -> int:
    return int.from_bytes(text[at : at + 8], "little")


def _half(text: bytes, at: int) -> int:
    return int.from_bytes(text[at : at + 4], "little")


def _turned(word: int, by: int) -> int:
    """Return 64 bits turned to the right."""
    word &= _MASK
    return word >> by | word << (64 - by) & _MASK


def _shifted(word: int) -> int:
    return word ^ word >> 47
