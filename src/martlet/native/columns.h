/* JSON values straight into columns, and columns into tensors: what the readers of bodies share.
 *
 * One pass, no recursion. A value takes at least two bytes of the body and at most eight of a
 * column, which grows by halves: memory stays under a small multiple of the body. Whatever is not
 * as expected comes to LEAVE: the complete reader decides what it is and what to say of it.
 *
 * One file on purpose, as shortcut.c and rows.c are: see docs/decisions/0260.
 */
#ifndef MARTLET_COLUMNS_H
#define MARTLET_COLUMNS_H
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MOST_RANK 8
#define MOST_TOKEN 400 /* bytes of a number that needs the slow conversion */
#define MOST_INPUTS 4096

typedef enum { BOOL, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FLOAT32, FLOAT64,
               STRING, KINDS } Kind;

/* What an attempt comes to: OK, or leave it to the complete reader, or a Python error is set. */
typedef enum { OK, LEAVE, FAILED } Outcome;

typedef struct {
    const char *at, *end;
} Text;

typedef struct {
    char *data;        /* [used], of *room*; NULL for strings */
    Py_ssize_t used, room; /* bytes */
    PyObject *strings; /* a list, for strings */
    int leaf_depth;    /* of lists around a value; -1 before the first */
    Py_ssize_t size[MOST_RANK]; /* of each list by depth; -1 before the first has ended */
    Py_ssize_t seen;   /* the row that last had it; 0: it did not come */
} Column;

/* What a signature takes. */
typedef struct {
    Py_ssize_t count;
    PyObject *kept; /* the tuple it was made of: it keeps what is below alive */
    const char **name;
    Py_ssize_t *name_size;
    uint8_t *kind, *needed;
    int *rank;                        /* -1: not declared */
    Py_ssize_t (*wanted)[MOST_RANK];  /* sizes by axis; -1: any */
    const char *enforced;             /* by input: 1, 0 where any shape will do */
    PyObject *keys, *makers, *dtypes; /* tuples: make(shape, dtype, data) is the tensor */
} Inputs;

/* ---- memory that numpy may keep ----------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    char *data;
    Py_ssize_t size;
} Block;

static PyTypeObject *block_type; /* made when the module is */

static int block_getbuffer(PyObject *self, Py_buffer *view, int flags)
{
    Block *b = (Block *)self;
    return PyBuffer_FillInfo(view, self, b->data, b->size, 0, flags);
}

static void block_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    free(((Block *)self)->data);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyType_Slot block_slots[] = {{Py_bf_getbuffer, block_getbuffer},
                                    {Py_tp_dealloc, block_dealloc},
                                    {0, NULL}};
static PyType_Spec block_spec = {BLOCK_NAME, sizeof(Block), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
                                 block_slots};

/* Hands the column's memory over to a Block. */
static PyObject *block_of(Column *c)
{
    Block *b = (Block *)((allocfunc)PyType_GetSlot(block_type, Py_tp_alloc))(block_type, 0);
    if (!b)
        return NULL;
    char *fitted = realloc(c->data, (size_t)c->used + 1);
    b->data = fitted ? fitted : c->data;
    b->size = c->used;
    c->data = NULL;
    return (PyObject *)b;
}

/* Makes room for more; returns -1 without memory. */
static int grow(Column *c)
{
    const Py_ssize_t room = c->room + c->room / 2 + 256;
    char *grown = realloc(c->data, (size_t)room);
    if (!grown) {
        PyErr_NoMemory();
        return -1;
    }
    c->data = grown;
    c->room = room;
    return 0;
}

/* ---- numbers ------------------------------------------------------------------------------ */

static const double TENS[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                              1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

/* One comparison for most that is none. */
static inline int is_space(char c)
{
    return (uint8_t)c <= ' ' && (c == ' ' || c == '\n' || c == '\r' || c == '\t');
}

static inline int is_at(const Text *t, char c) { return t->at < t->end && *t->at == c; }

static inline int read_word(Text *t, const char *word)
{
    const Py_ssize_t size = (Py_ssize_t)strlen(word);
    if (t->end - t->at < size || memcmp(t->at, word, (size_t)size))
        return 0;
    t->at += size;
    return 1;
}

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

/* ---- strings ------------------------------------------------------------------------------ */

static int read_hex(Text *t, uint32_t *code)
{
    *code = 0;
    if (t->end - t->at < 4)
        return 0;
    for (int i = 0; i < 4; i++) {
        const char c = *t->at++;
        const char low = (char)(c | 0x20);
        if ((uint8_t)(c - '0') < 10)
            *code = *code << 4 | (uint32_t)(c - '0');
        else if (low >= 'a' && low <= 'f')
            *code = *code << 4 | (uint32_t)(low - 'a' + 10);
        else
            return 0;
    }
    return 1;
}

/* Writes what the escape after a backslash means, as UTF-8: at most four bytes for six or twelve. */
static int read_escape(Text *t, char **to)
{
    static const char MARKS[] = "\"\\/bfnrt", MEANT[] = "\"\\/\b\f\n\r\t";
    uint32_t code, low;
    if (t->at >= t->end)
        return 0;
    const char mark = *t->at++;
    if (mark != 'u') {
        const char *found = mark ? strchr(MARKS, mark) : NULL;
        if (!found)
            return 0;
        *(*to)++ = MEANT[found - MARKS];
        return 1;
    }
    if (!read_hex(t, &code))
        return 0;
    if (code >= 0xD800 && code < 0xE000) {
        if (code >= 0xDC00 || !read_word(t, "\\u") || !read_hex(t, &low) || low < 0xDC00 ||
            low >= 0xE000)
            return 0;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    char *p = *to;
    if (code < 0x80) {
        *p++ = (char)code;
    } else if (code < 0x800) {
        *p++ = (char)(0xC0 | code >> 6);
        *p++ = (char)(0x80 | (code & 0x3F));
    } else {
        if (code < 0x10000) {
            *p++ = (char)(0xE0 | code >> 12);
        } else {
            *p++ = (char)(0xF0 | code >> 18);
            *p++ = (char)(0x80 | (code >> 12 & 0x3F));
        }
        *p++ = (char)(0x80 | (code >> 6 & 0x3F));
        *p++ = (char)(0x80 | (code & 0x3F));
    }
    *to = p;
    return 1;
}

/* Reads a string from its opening quote on into a Python str. */
static Outcome read_string(Text *t, PyObject **value)
{
    if (!is_at(t, '"'))
        return LEAVE;
    const char *begun = ++t->at;
    const char *at = begun;
    while (at < t->end && *at != '"' && *at != '\\' && (uint8_t)*at >= 0x20)
        at++;
    if (at >= t->end || (uint8_t)*at < 0x20)
        return LEAVE;
    if (*at == '"') {
        t->at = at + 1;
        *value = PyUnicode_DecodeUTF8(begun, at - begun, NULL);
    } else {
        int escaped = 0;
        for (; at < t->end && (escaped || *at != '"'); at++)
            escaped = !escaped && *at == '\\';
        if (at >= t->end)
            return LEAVE;
        /* An escape is never shorter than what it means. */
        char *space = malloc((size_t)(at - begun) + 1);
        if (!space) {
            PyErr_NoMemory();
            return FAILED;
        }
        char *to = space;
        Text inside = {begun, at};
        int good = 1;
        while (good && inside.at < inside.end) {
            const char c = *inside.at++;
            if (c == '\\')
                good = read_escape(&inside, &to);
            else if ((uint8_t)c < 0x20)
                good = 0;
            else
                *to++ = c;
        }
        t->at = at + 1;
        *value = good ? PyUnicode_DecodeUTF8(space, to - space, NULL) : NULL;
        free(space);
        if (!good)
            return LEAVE;
    }
    if (*value)
        return OK;
    if (PyErr_ExceptionMatches(PyExc_MemoryError))
        return FAILED;
    PyErr_Clear(); /* not UTF-8 */
    return LEAVE;
}

/* ---- values ------------------------------------------------------------------------------- */

static inline void skip_space(Text *t)
{
    while (t->at < t->end && is_space(*t->at))
        t->at++;
}

/* Whether *c* comes next, after white space; then it is passed. */
static inline int take(Text *t, char c)
{
    skip_space(t);
    if (!is_at(t, c))
        return 0;
    t->at++;
    return 1;
}

/*
 * A run is the values of one innermost list, from the first to what is no comma; or, *alone*, one
 * value outside of any list. *count* is their number.
 */
typedef Outcome (*Run)(Text *t, Column *c, int alone, Py_ssize_t *count);

#define DEFINE_RUN(NAME, TYPE, PARSE)                                                         \
    static Outcome NAME(Text *t, Column *c, int alone, Py_ssize_t *count)                     \
    {                                                                                         \
        const char *at = t->at, *const end = t->end;                                          \
        char *to = c->data + c->used, *full = c->data + c->room;                              \
        for (;;) {                                                                            \
            TYPE value;                                                                       \
            if ((size_t)(full - to) < sizeof value) {                                         \
                c->used = to - c->data;                                                       \
                if (grow(c) < 0)                                                              \
                    return FAILED;                                                            \
                to = c->data + c->used;                                                       \
                full = c->data + c->room;                                                     \
            }                                                                                 \
            if ((at = PARSE(at, end, &value)) == NULL)                                        \
                return LEAVE;                                                                 \
            memcpy(to, &value, sizeof value);                                                 \
            to += sizeof value;                                                               \
            ++*count;                                                                         \
            if (alone)                                                                        \
                break;                                                                        \
            while (at < end && is_space(*at))                                                 \
                at++;                                                                         \
            if (at == end || *at != ',')                                                      \
                break;                                                                        \
            do                                                                                \
                at++;                                                                         \
            while (at < end && is_space(*at));                                                \
        }                                                                                     \
        c->used = to - c->data;                                                               \
        t->at = at;                                                                           \
        return OK;                                                                            \
    }

#define DEFINE_SIGNED(TYPE, MOST)                                                             \
    static inline const char *parse_##TYPE(const char *at, const char *end, TYPE##_t *value)  \
    {                                                                                         \
        int negative;                                                                         \
        uint64_t size;                                                                        \
        at = parse_integer(at, end, &negative, &size);                                        \
        if (at == NULL || size > (uint64_t)MOST + (uint64_t)negative)                         \
            return NULL;                                                                      \
        *value = (TYPE##_t)(negative ? -(int64_t)(size - 1) - 1 : (int64_t)size);             \
        return at;                                                                            \
    }                                                                                         \
    DEFINE_RUN(run_##TYPE, TYPE##_t, parse_##TYPE)

#define DEFINE_UNSIGNED(TYPE, MOST)                                                           \
    static inline const char *parse_##TYPE(const char *at, const char *end, TYPE##_t *value)  \
    {                                                                                         \
        int negative;                                                                         \
        uint64_t size;                                                                        \
        at = parse_integer(at, end, &negative, &size);                                        \
        if (at == NULL || size > MOST || (negative && size))                                  \
            return NULL;                                                                      \
        *value = (TYPE##_t)size;                                                              \
        return at;                                                                            \
    }                                                                                         \
    DEFINE_RUN(run_##TYPE, TYPE##_t, parse_##TYPE)

DEFINE_SIGNED(int8, INT8_MAX)
DEFINE_SIGNED(int16, INT16_MAX)
DEFINE_SIGNED(int32, INT32_MAX)
DEFINE_SIGNED(int64, INT64_MAX)
DEFINE_UNSIGNED(uint8, UINT8_MAX)
DEFINE_UNSIGNED(uint16, UINT16_MAX)
DEFINE_UNSIGNED(uint32, UINT32_MAX)
DEFINE_UNSIGNED(uint64, UINT64_MAX)
DEFINE_RUN(run_float64, double, parse_float)

static inline const char *parse_float32(const char *at, const char *end, float *value)
{
    double found;
    at = parse_float(at, end, &found);
    if (at != NULL)
        *value = (float)found; /* past its range: infinity */
    return at;
}
DEFINE_RUN(run_float32, float, parse_float32)

static inline const char *parse_bool(const char *at, const char *end, uint8_t *value)
{
    Text t = {at, end};
    *value = (uint8_t)read_word(&t, "true");
    return *value || read_word(&t, "false") ? t.at : NULL;
}
DEFINE_RUN(run_bool, uint8_t, parse_bool)

static Outcome run_string(Text *t, Column *c, int alone, Py_ssize_t *count)
{
    do {
        PyObject *value;
        skip_space(t);
        const Outcome outcome = read_string(t, &value);
        if (outcome != OK)
            return outcome;
        const int failed = PyList_Append(c->strings, value);
        Py_DECREF(value);
        if (failed)
            return FAILED;
        ++*count;
    } while (!alone && take(t, ','));
    return OK;
}

static const Run RUNS[KINDS] = {run_bool,   run_int8,   run_int16,  run_int32,
                                run_int64,  run_uint8,  run_uint16, run_uint32,
                                run_uint64, run_float32, run_float64, run_string};

/* Reads a value or lists of them; every list of a depth has the size of the first. */
static Outcome read_value(Text *t, Kind kind, Column *c)
{
    Py_ssize_t count[MOST_RANK];
    int depth = 0;
    for (;;) {
        while (take(t, '[')) {
            if (depth == MOST_RANK)
                return LEAVE;
            count[depth++] = 0;
        }
        if (c->leaf_depth != depth) {
            if (c->leaf_depth >= 0)
                return LEAVE;
            c->leaf_depth = depth;
        }
        Py_ssize_t alone = 0;
        const Outcome outcome = RUNS[kind](t, c, depth == 0, depth ? &count[depth - 1] : &alone);
        if (outcome != OK || depth == 0)
            return outcome;
        for (;;) {
            Py_ssize_t *size = &c->size[depth - 1];
            skip_space(t);
            if (t->at >= t->end)
                return LEAVE;
            const char next = *t->at++;
            if (next == ',')
                break;
            if (next != ']' || (*size >= 0 && *size != count[depth - 1]))
                return LEAVE;
            *size = count[depth - 1];
            if (--depth == 0)
                return OK;
            count[depth - 1]++;
        }
        skip_space(t);
    }
}

/* ---- tensors ------------------------------------------------------------------------------ */

/* Whether the model takes input *i* in the shape [size of rank]. */
static int fits(const Inputs *inputs, Py_ssize_t i, int rank, const Py_ssize_t *size)
{
    if (inputs->rank[i] != rank)
        return 0;
    for (int axis = 0; axis < rank; axis++)
        if (inputs->wanted[i][axis] >= 0 && inputs->wanted[i][axis] != size[axis])
            return 0;
    return 1;
}

/* Hands the column's memory over to the tensor of input *i*. */
static PyObject *tensor_of(const Inputs *inputs, Py_ssize_t i, Column *c, int rank,
                           const Py_ssize_t *size)
{
    PyObject *shape = PyTuple_New(rank), *tensor = NULL;
    for (int axis = 0; shape && axis < rank; axis++) {
        PyObject *number = PyLong_FromSsize_t(size[axis]);
        if (!number)
            Py_CLEAR(shape);
        else
            PyTuple_SetItem(shape, axis, number);
    }
    PyObject *data = c->strings ? Py_NewRef(c->strings) : block_of(c);
    if (shape && data)
        tensor = PyObject_CallFunctionObjArgs(PyTuple_GetItem(inputs->makers, i), shape,
                                              PyTuple_GetItem(inputs->dtypes, i), data, NULL);
    Py_XDECREF(shape);
    Py_XDECREF(data);
    return tensor;
}

/* Takes *tensor* in as input *i*, and lets go of it; 0 with an error set. */
static int put_tensor(const Inputs *inputs, Py_ssize_t i, PyObject *tensors, PyObject *tensor)
{
    const int failed =
        !tensor || PyDict_SetItem(tensors, PyTuple_GetItem(inputs->keys, i), tensor) < 0;
    Py_XDECREF(tensor);
    return !failed;
}

/* ---- what is read into ---------------------------------------------------------------------- */

static void free_columns(const Inputs *inputs, Column *columns)
{
    for (Py_ssize_t i = 0; columns && i < inputs->count; i++) {
        free(columns[i].data);
        Py_XDECREF(columns[i].strings);
    }
    free(columns);
}

/* Empty columns, one for each input; NULL with an error set. */
static Column *new_columns(const Inputs *inputs)
{
    Column *columns = calloc((size_t)inputs->count, sizeof *columns);
    if (!columns)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; columns && i < inputs->count; i++) {
        columns[i].leaf_depth = -1;
        for (int k = 0; k < MOST_RANK; k++)
            columns[i].size[k] = -1;
        if (inputs->kind[i] == STRING && !(columns[i].strings = PyList_New(0))) {
            free_columns(inputs, columns);
            return NULL;
        }
    }
    return columns;
}

/* Whether all came that must. */
static int is_complete(const Inputs *inputs, const Column *columns)
{
    for (Py_ssize_t i = 0; i < inputs->count; i++)
        if (inputs->needed[i] && !columns[i].seen)
            return 0;
    return 1;
}

static void free_inputs(Inputs *inputs)
{
    Py_XDECREF(inputs->kept);
    free(inputs->name);
    free(inputs->name_size);
    free(inputs->kind);
    free(inputs->needed);
    free(inputs->rank);
    free(inputs->wanted);
}

/* Takes over one input; -1 with an error set. *shape*: sizes, or None where none is declared. */
static int read_input(Inputs *inputs, Py_ssize_t i, PyObject *name, char kind, PyObject *shape)
{
    char *bytes;
    if (PyBytes_AsStringAndSize(name, &bytes, &inputs->name_size[i]) < 0)
        return -1;
    const Py_ssize_t rank =
        shape == Py_None ? -1 : PyTuple_Check(shape) ? PyTuple_Size(shape) : MOST_RANK + 1;
    if (kind < 0 || kind >= KINDS || rank > MOST_RANK) {
        PyErr_SetString(PyExc_ValueError, "no such kind, or shape");
        return -1;
    }
    inputs->name[i] = bytes;
    inputs->kind[i] = (uint8_t)kind;
    inputs->rank[i] = (int)rank;
    for (Py_ssize_t axis = 0; axis < rank; axis++) {
        inputs->wanted[i][axis] = PyLong_AsSsize_t(PyTuple_GetItem(shape, axis));
        if (inputs->wanted[i][axis] == -1 && PyErr_Occurred())
            return -1;
    }
    return 0;
}

/* Takes over (names, kinds, shapes, enforced, needed, keys, makers, dtypes), one of each for every
 * input; -1 with an error set, and then *inputs* must be freed too. */
static int read_inputs(Inputs *inputs, PyObject *given)
{
    PyObject *names, *shapes;
    const char *kinds, *needed;
    Py_ssize_t count, enforced_count, needed_count;
    if (!PyArg_ParseTuple(given, "O!y#O!y#y#O!O!O!", &PyTuple_Type, &names, &kinds, &count,
                          &PyTuple_Type, &shapes, &inputs->enforced, &enforced_count, &needed,
                          &needed_count, &PyTuple_Type, &inputs->keys, &PyTuple_Type,
                          &inputs->makers, &PyTuple_Type, &inputs->dtypes))
        return -1;
    if (count < 1 || count > MOST_INPUTS || PyTuple_Size(names) != count ||
        PyTuple_Size(shapes) != count || enforced_count != count || needed_count != count ||
        PyTuple_Size(inputs->keys) != count || PyTuple_Size(inputs->makers) != count ||
        PyTuple_Size(inputs->dtypes) != count) {
        PyErr_SetString(PyExc_ValueError, "one of each for every input is wanted");
        return -1;
    }
    inputs->count = count;
    inputs->kept = Py_NewRef(given);
    inputs->name = calloc((size_t)count, sizeof *inputs->name);
    inputs->name_size = calloc((size_t)count, sizeof *inputs->name_size);
    inputs->kind = calloc((size_t)count, 1);
    inputs->needed = calloc((size_t)count, 1);
    inputs->rank = calloc((size_t)count, sizeof *inputs->rank);
    inputs->wanted = calloc((size_t)count, sizeof *inputs->wanted);
    if (!inputs->name || !inputs->name_size || !inputs->kind || !inputs->needed || !inputs->rank ||
        !inputs->wanted) {
        PyErr_NoMemory();
        return -1;
    }
    memcpy(inputs->needed, needed, (size_t)count);
    for (Py_ssize_t i = 0; i < count; i++)
        if (read_input(inputs, i, PyTuple_GetItem(names, i), kinds[i],
                       PyTuple_GetItem(shapes, i)) < 0)
            return -1;
    return 0;
}

#endif
