/* Numbers in JSON, read to the nearest double or refused: integers of every width, floats, NaN, Inf. */
#ifndef MARTLET_JSON_NUMBERS_H
#define MARTLET_JSON_NUMBERS_H
#include "json_text.h"
#include <float.h>
#include <math.h>

#define MOST_TOKEN 400 /* bytes of a number that needs the slow conversion */

static const double TENS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                              1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

#if defined(__SIZEOF_INT128__)
typedef unsigned __int128 Wide;

static const uint64_t WHOLE_TENS[] = {
    1u, 10u, 100u, 1000u, 10000u, 100000u, 1000000u, 10000000u, 100000000u, 1000000000u,
    10000000000u, 100000000000u, 1000000000000u, 10000000000000u, 100000000000000u,
    1000000000000000u, 10000000000000000u, 100000000000000000u, 1000000000000000000u,
    10000000000000000000u};

/* Returns high * 2**exponent, of which bits may be lost (*lost*), rounded to nearest, ties to even. */
static double rounded(uint64_t high, int exponent, int lost)
{
    const int shift = __builtin_clzll(high);
    high <<= shift; /* the top bit is set: 53 stay, 11 go */
    const uint64_t rest = high & 0x7FF;
    uint64_t mantissa = high >> 11;
    if (rest > 0x400 || (rest == 0x400 && (lost || (mantissa & 1))))
        mantissa++;
    return ldexp((double)mantissa, exponent - shift + 11);
}

/* Returns digits * 10**exponent, exactly rounded; digits > 0, exponent within -19..19. */
static double scaled(uint64_t digits, int exponent)
{
    if (exponent >= 0) {
        const Wide product = (Wide)digits * WHOLE_TENS[exponent];
        const uint64_t high = (uint64_t)(product >> 64);
        if (!high)
            return rounded((uint64_t)product, 0, 0);
        const int shift = __builtin_clzll(high);
        const Wide full = product << shift;
        return rounded((uint64_t)(full >> 64), 64 - shift, (uint64_t)full != 0);
    }
    const uint64_t divisor = WHOLE_TENS[-exponent];
    const int up = __builtin_clzll(digits), under = __builtin_clzll(divisor);
    /* Both with their top bit set, the dividend halved: the quotient has 63 or 64 bits. */
    const Wide dividend = (Wide)(digits << up >> 1) << 64 | (Wide)((digits << up & 1) << 63);
    const uint64_t by = divisor << under;
    const uint64_t quotient = (uint64_t)(dividend / by);
    return rounded(quotient, under - up + 1 - 64, dividend % by != 0);
}
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && defined(__GNUC__)
/*
 * Reads the digits among the next eight bytes without a branch on each: they make *number*, and
 * how many there were is returned. Lemire, "Quickly parsing eight digits", 2018, for any count.
 */
static inline int next_digits(const char *at, const char *end, uint64_t *number)
{
    uint64_t x;
    if (end - at < 8)
        return 0;
    memcpy(&x, at, 8);
    x ^= 0x3030303030303030u;
    /* The top bit of every byte up to the first that is no digit is right. */
    const uint64_t others = ((x + 0x7676767676767676u) | x) & 0x8080808080808080u;
    const int count = others ? __builtin_ctzll(others) >> 3 : 8;
    if (count == 0)
        return 0;
    x <<= 64 - count * 8;
    x = x * 10 + (x >> 8);
    *number = ((x & 0x000000FF000000FFu) * 0x000F424000000064u +
               (x >> 16 & 0x000000FF000000FFu) * 0x0000271000000001u) >> 32;
    return count;
}
#else
static inline int next_digits(const char *at, const char *end, uint64_t *number)
{
    (void)at, (void)end, (void)number;
    return 0;
}
#endif

/* As next_digits, and adds them to *number*. */
static inline int read_digits(const char *at, const char *end, uint64_t *number)
{
    static const uint64_t shifts[] = {1,      10,      100,      1000,     10000,
                                      100000, 1000000, 10000000, 100000000};
    uint64_t more;
    const int count = next_digits(at, end, &more);
    if (count)
        *number = *number * shifts[count] + more;
    return count;
}

/*
 * The parse functions return what comes after the value, or NULL to leave it. They take and give
 * pointers, not a Text, so that the loops below keep theirs in registers.
 */

/* The sign and size of an integer token. */
static inline const char *parse_integer(const char *at, const char *end, int *negative,
                                        uint64_t *size)
{
    uint64_t n = 0, digit;
    *negative = at < end && *at == '-';
    at += *negative;
    const char *const begun = at;
    const int few = next_digits(at, end, &n);
    if (few && few < 8) { /* most integers; what follows is no digit */
        *size = n;
        return *begun != '0' || few == 1 ? at + few : NULL;
    }
    at += few;
    while (at < end && (digit = (uint64_t)(uint8_t)*at - '0') < 10) {
        if (at - begun >= 19 && (at - begun > 19 || n > (UINT64_MAX - digit) / 10))
            return NULL;
        n = n * 10 + digit;
        at++;
    }
    *size = n;
    return at > begun && (*begun != '0' || at == begun + 1) ? at : NULL;
}

/* Correctly rounded, whatever its digits; too large a number is left to the other reader. */
static const char *parse_slowly(const char *begun, const char *after, double *value)
{
    char token[MOST_TOKEN + 1];
    if (after - begun > MOST_TOKEN)
        return NULL;
    memcpy(token, begun, (size_t)(after - begun));
    token[after - begun] = 0;
    *value = PyOS_string_to_double(token, NULL, NULL);
    if (*value == -1.0 && PyErr_Occurred()) {
        PyErr_Clear();
        return NULL;
    }
    return isinf(*value) ? NULL : after;
}

static const char *parse_no_number(const char *at, const char *end, double *value)
{
    Text t = {at, end};
    const int negative = is_at(&t, '-');
    if (read_word(&t, "NaN")) {
        *value = NAN;
        return t.at;
    }
    t.at += negative;
    if (!read_word(&t, "Inf"))
        return NULL;
    read_word(&t, "inity");
    *value = negative ? -INFINITY : INFINITY;
    return t.at;
}

#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD == 0
/* A digit, a point, up to eight digits and the end of the token: most floats. NULL: another. */
static inline const char *parse_short_float(const char *at, const char *end, double *value)
{
    uint64_t fraction, first;
    if (end - at < 12)
        return NULL;
    const int negative = *at == '-';
    at += negative;
    first = (uint64_t)(uint8_t)*at - '0';
    if (first >= 10 || at[1] != '.')
        return NULL;
    const int count = next_digits(at + 2, end, &fraction);
    const char after = at[2 + count];
    if (!count || (after != ',' && after != ']'))
        return NULL;
    /* Both sides are exact, so one operation rounds once. */
    const double found = (double)(first * (uint64_t)TENS[count] + fraction) / TENS[count];
    *value = negative ? -found : found;
    return at + 2 + count;
}
#else
static inline const char *parse_short_float(const char *at, const char *end, double *value)
{
    (void)at, (void)end, (void)value;
    return NULL;
}
#endif

static inline const char *parse_float(const char *at, const char *end, double *value)
{
    const char *const quick = parse_short_float(at, end, value);
    if (quick)
        return quick;
    const char *const begun = at;
    const int negative = at < end && *at == '-';
    uint64_t digits = 0, digit;
    int exponent = 0, is_whole = 1;
    at += negative;
    const char *first = at; /* digit that counts */
    while (at < end && (digit = (uint64_t)(uint8_t)*at - '0') < 10) {
        digits = digits * 10 + digit; /* past 19 digits this is not used */
        at++;
    }
    if (at == first)
        return parse_no_number(begun, end, value);
    if (*first == '0') {
        if (at != first + 1)
            return NULL;
        first++;
    }
    Py_ssize_t count = at - first;
    if (at < end && *at == '.') {
        const char *const fraction = ++at;
        is_whole = 0;
        at += read_digits(at, end, &digits);
        while (at < end && (digit = (uint64_t)(uint8_t)*at - '0') < 10) {
            digits = digits * 10 + digit;
            at++;
        }
        if (at == fraction || at - fraction > MOST_TOKEN)
            return NULL;
        exponent = -(int)(at - fraction);
        count += at - fraction;
        if (count > 19 && first == fraction - 1) {
            /* 0.000...: the zeros before the first digit count for nothing. */
            for (const char *zero = fraction; zero < at && *zero == '0'; zero++)
                count--;
        }
    }
    if (at < end && (*at | 0x20) == 'e') {
        int given = 0;
        is_whole = 0;
        at++;
        const int below = at < end && *at == '-';
        at += below || (at < end && *at == '+');
        const char *const power = at;
        for (; at < end && (digit = (uint64_t)(uint8_t)*at - '0') < 10; at++)
            if (given < 10000)
                given = given * 10 + (int)digit;
        if (at == power)
            return NULL;
        exponent += below ? -given : given;
    }
    double found;
    if (count > 19)
        return parse_slowly(begun, at, value);
    if (digits == 0) {
        *value = negative && !is_whole ? -0.0 : 0.0; /* -0 is an integer */
        return at;
    }
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD == 0
    /* Both sides are exact, so one operation rounds once. Clinger, "How to read floating point
     * numbers accurately", PLDI 1990. */
    if (digits <= (uint64_t)1 << 53 && exponent >= -22 && exponent <= 22)
        found = exponent < 0 ? (double)digits / TENS[-exponent] : (double)digits * TENS[exponent];
    else
#endif
#if defined(__SIZEOF_INT128__)
        if (exponent >= -19 && exponent <= 19)
        found = scaled(digits, exponent);
    else
#endif
        return parse_slowly(begun, at, value);
    *value = negative ? -found : found;
    return at;
}

#endif
