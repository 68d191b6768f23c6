/*
 * The bodies of TensorFlow Serving's ":predict", read straight into columns.
 *
 * This is the short way for bodies of the expected shape. Whatever is not (an unknown or repeated
 * key, a ragged list, a value of another type, an empty list, a shape that the model does not take,
 * {"b64": ...}, a syntax error) makes decode() return None, and the complete reader in
 * martlet/wire/tfserving decides what it is and what to say of it. So this file knows no error message, and must never accept what that reader
 * would refuse, nor read a value otherwise.
 *
 * One pass, no recursion. A value takes at least two bytes of the body and at most eight of a
 * column, which grows by halves: memory stays under a small multiple of the body.
 */
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
    Py_ssize_t seen;   /* the row that last had it */
} Column;

typedef struct {
    PyObject_HEAD
    Py_ssize_t inputs;
    PyObject *kept; /* the arguments: they keep the bytes below alive */
    const char **name;
    Py_ssize_t *name_size;
    uint8_t *kind;
    int *rank;                       /* -1: any shape will do */
    Py_ssize_t (*wanted)[MOST_RANK]; /* sizes by axis; -1: any */
    PyObject *keys, *makers, *dtypes; /* tuples: make(shape, dtype, data) is the tensor */
    const char *signature;
    Py_ssize_t signature_size;
    int is_default; /* a body that names no signature means this one */
} Plan;

/* ---- memory that numpy may keep ----------------------------------------------------------- */

typedef struct {
    PyObject_HEAD
    char *data;
    Py_ssize_t size;
} Block;

static PyTypeObject *block_type;

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
static PyType_Spec block_spec = {"martlet.native._rows.Block", sizeof(Block), 0,
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

static inline int is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

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
 * Reads the digits among the next eight bytes without a branch on each: adds them to *number* and
 * returns how many there were. Lemire, "Quickly parsing eight digits", 2018, for any count.
 */
static inline int read_digits(const char *at, const char *end, uint64_t *number)
{
    static const uint64_t shifts[] = {1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000};
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
    x = ((x & 0x000000FF000000FFu) * 0x000F424000000064u +
         (x >> 16 & 0x000000FF000000FFu) * 0x0000271000000001u) >> 32;
    *number = *number * shifts[count] + x;
    return count;
}
#else
static inline int read_digits(const char *at, const char *end, uint64_t *number)
{
    (void)at, (void)end, (void)number;
    return 0;
}
#endif

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
    at += read_digits(at, end, &n);
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

static inline const char *parse_float(const char *at, const char *end, double *value)
{
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
            at++;                                                                             \
            while (at < end && is_space(*at))                                                 \
                at++;                                                                         \
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

/* ---- bodies ------------------------------------------------------------------------------- */

/* Reads a key and the colon after it; the input of that name, tried from *guess* on, or -1. */
static Py_ssize_t read_key(const Plan *plan, Text *t, Py_ssize_t guess)
{
    if (!take(t, '"'))
        return -1;
    const Py_ssize_t left = t->end - t->at;
    for (Py_ssize_t tried = 0, i = guess; tried < plan->inputs; tried++, i++) {
        if (i >= plan->inputs)
            i = 0;
        const Py_ssize_t size = plan->name_size[i];
        if (size < left && t->at[size] == '"' && !memcmp(t->at, plan->name[i], (size_t)size)) {
            t->at += size + 1;
            return take(t, ':') ? i : -1;
        }
    }
    return -1;
}

/* Reads an object with each input once, as row *row* (from 1) of the columns. */
static Outcome read_object(const Plan *plan, Text *t, Column *columns, Py_ssize_t row)
{
    if (!take(t, '{'))
        return LEAVE;
    for (Py_ssize_t seen = 0, guess = 0; seen < plan->inputs; seen++) {
        if (seen && !take(t, ','))
            return LEAVE;
        const Py_ssize_t i = read_key(plan, t, guess);
        if (i < 0 || columns[i].seen == row)
            return LEAVE;
        columns[i].seen = row;
        const Outcome outcome = read_value(t, (Kind)plan->kind[i], &columns[i]);
        if (outcome != OK)
            return outcome;
        guess = i + 1;
    }
    return take(t, '}') ? OK : LEAVE;
}

/* Makes room for as many rows as the rest of the body can hold, judged by the first. */
static void expect(Column *columns, Py_ssize_t inputs, Py_ssize_t row_bytes, Py_ssize_t left)
{
    for (Py_ssize_t i = 0; i < inputs; i++) {
        const Py_ssize_t room = columns[i].used * (left / (row_bytes + 1) + 2);
        char *grown = columns[i].data ? realloc(columns[i].data, (size_t)room) : NULL;
        if (grown) {
            columns[i].data = grown;
            columns[i].room = room;
        }
    }
}

static Outcome read_rows(const Plan *plan, Text *t, Column *columns, Py_ssize_t *rows)
{
    Text ahead = *t;
    if (!take(&ahead, '['))
        return LEAVE;
    skip_space(&ahead);
    if (!is_at(&ahead, '{')) {
        *rows = -1; /* bare values: the list of rows is the first axis */
        return plan->inputs == 1 ? read_value(t, (Kind)plan->kind[0], &columns[0]) : LEAVE;
    }
    *t = ahead;
    *rows = 0;
    do {
        skip_space(t);
        const char *begun = t->at;
        const Outcome outcome = read_object(plan, t, columns, ++*rows);
        if (outcome != OK)
            return outcome;
        if (*rows == 1)
            expect(columns, plan->inputs, t->at - begun, t->end - t->at);
    } while (take(t, ','));
    return take(t, ']') ? OK : LEAVE;
}

static Outcome read_columns(const Plan *plan, Text *t, Column *columns)
{
    skip_space(t);
    if (is_at(t, '{'))
        return read_object(plan, t, columns, 1);
    return plan->inputs == 1 ? read_value(t, (Kind)plan->kind[0], &columns[0]) : LEAVE;
}

/* Reads the value of "signature_name": whether it is this plan's. */
static int read_signature(const Plan *plan, Text *t)
{
    if (!take(t, '"'))
        return 0;
    if (plan->is_default && is_at(t, '"')) {
        t->at++;
        return 1;
    }
    const Py_ssize_t size = plan->signature_size;
    if (t->end - t->at <= size || t->at[size] != '"' ||
        memcmp(t->at, plan->signature, (size_t)size))
        return 0;
    t->at += size + 1;
    return 1;
}

/* *rows* becomes their number, -1 for bare rows, -2 for columns. */
static Outcome read_body(const Plan *plan, Text *t, Column *columns, Py_ssize_t *rows)
{
    int named = 0, filled = 0;
    if (!take(t, '{'))
        return LEAVE;
    do {
        Outcome outcome = OK;
        if (!take(t, '"'))
            return LEAVE;
        if (read_word(t, "signature_name\"")) {
            if (named++ || !take(t, ':') || !read_signature(plan, t))
                return LEAVE;
        } else if (read_word(t, "instances\"")) {
            if (filled++ || !take(t, ':'))
                return LEAVE;
            outcome = read_rows(plan, t, columns, rows);
        } else if (read_word(t, "inputs\"")) {
            if (filled++ || !take(t, ':'))
                return LEAVE;
            *rows = -2;
            outcome = read_columns(plan, t, columns);
        } else {
            return LEAVE;
        }
        if (outcome != OK)
            return outcome;
    } while (take(t, ','));
    if (!take(t, '}') || filled != 1 || (!named && !plan->is_default))
        return LEAVE;
    skip_space(t);
    return t->at == t->end ? OK : LEAVE;
}

/* Whether the model takes input *i* in the shape that came, which has *outer* axes before c's. */
static int fits(const Plan *plan, Py_ssize_t i, const Column *c, int outer, Py_ssize_t rows)
{
    if (plan->rank[i] < 0)
        return 1;
    if (plan->rank[i] != outer + c->leaf_depth)
        return 0;
    for (int axis = 0; axis < plan->rank[i]; axis++) {
        const Py_ssize_t size = axis < outer ? rows : c->size[axis - outer];
        if (plan->wanted[i][axis] >= 0 && plan->wanted[i][axis] != size)
            return 0;
    }
    return 1;
}

static PyObject *shape_of(const Column *c, int outer, Py_ssize_t rows)
{
    PyObject *shape = PyTuple_New(outer + c->leaf_depth);
    for (int axis = 0; shape && axis < outer + c->leaf_depth; axis++) {
        PyObject *size = PyLong_FromSsize_t(axis < outer ? rows : c->size[axis - outer]);
        if (!size)
            Py_CLEAR(shape);
        else
            PyTuple_SetItem(shape, axis, size);
    }
    return shape;
}

static PyObject *tensor_of(const Plan *plan, Py_ssize_t i, Column *c, int outer, Py_ssize_t rows)
{
    PyObject *shape = shape_of(c, outer, rows);
    PyObject *data = c->strings ? Py_NewRef(c->strings) : block_of(c), *tensor = NULL;
    if (shape && data)
        tensor = PyObject_CallFunctionObjArgs(PyTuple_GetItem(plan->makers, i), shape,
                                              PyTuple_GetItem(plan->dtypes, i), data, NULL);
    Py_XDECREF(shape);
    Py_XDECREF(data);
    return tensor;
}

/* ({name: tensor}, by row), or None where one does not fit. */
static PyObject *answer(const Plan *plan, Column *columns, Py_ssize_t rows)
{
    const int outer = rows >= 0;
    for (Py_ssize_t i = 0; i < plan->inputs; i++)
        if (!fits(plan, i, &columns[i], outer, rows))
            Py_RETURN_NONE;
    PyObject *tensors = PyDict_New(), *found = NULL;
    for (Py_ssize_t i = 0; tensors && i < plan->inputs; i++) {
        PyObject *tensor = tensor_of(plan, i, &columns[i], outer, rows);
        if (!tensor || PyDict_SetItem(tensors, PyTuple_GetItem(plan->keys, i), tensor) < 0)
            Py_CLEAR(tensors);
        Py_XDECREF(tensor);
    }
    if (tensors)
        found = PyTuple_Pack(2, tensors, rows != -2 ? Py_True : Py_False);
    Py_XDECREF(tensors);
    return found;
}

static PyObject *plan_decode(PyObject *self, PyObject *body)
{
    const Plan *plan = (const Plan *)self;
    Py_buffer view;
    if (PyObject_GetBuffer(body, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    Column *columns = calloc((size_t)plan->inputs, sizeof *columns);
    Outcome outcome = columns ? OK : FAILED;
    PyObject *found = NULL;
    if (!columns)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < plan->inputs && outcome == OK; i++) {
        columns[i].leaf_depth = -1;
        for (int k = 0; k < MOST_RANK; k++)
            columns[i].size[k] = -1;
        if (plan->kind[i] == STRING && !(columns[i].strings = PyList_New(0)))
            outcome = FAILED;
    }
    if (outcome == OK) {
        Text text = {view.buf, (const char *)view.buf + view.len};
        Py_ssize_t rows = 0;
        outcome = read_body(plan, &text, columns, &rows);
        if (outcome == OK)
            found = answer(plan, columns, rows);
    }
    for (Py_ssize_t i = 0; columns && i < plan->inputs; i++) {
        free(columns[i].data);
        Py_XDECREF(columns[i].strings);
    }
    free(columns);
    PyBuffer_Release(&view);
    if (outcome == LEAVE)
        Py_RETURN_NONE;
    return found;
}

/* ---- Plan --------------------------------------------------------------------------------- */

static void plan_dealloc(PyObject *self)
{
    Plan *plan = (Plan *)self;
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(plan->kept);
    free(plan->name);
    free(plan->name_size);
    free(plan->kind);
    free(plan->rank);
    free(plan->wanted);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* Takes over one input; -1 with an error set. *shape*: sizes, or None for any. */
static int plan_input(Plan *plan, Py_ssize_t i, PyObject *name, char kind, PyObject *shape)
{
    char *bytes;
    if (PyBytes_AsStringAndSize(name, &bytes, &plan->name_size[i]) < 0)
        return -1;
    const Py_ssize_t rank =
        shape == Py_None ? -1 : PyTuple_Check(shape) ? PyTuple_Size(shape) : MOST_RANK + 1;
    if (kind < 0 || kind >= KINDS || rank > MOST_RANK) {
        PyErr_SetString(PyExc_ValueError, "no such kind, or shape");
        return -1;
    }
    plan->name[i] = bytes;
    plan->kind[i] = (uint8_t)kind;
    plan->rank[i] = (int)rank;
    for (Py_ssize_t axis = 0; axis < rank; axis++) {
        plan->wanted[i][axis] = PyLong_AsSsize_t(PyTuple_GetItem(shape, axis));
        if (plan->wanted[i][axis] == -1 && PyErr_Occurred())
            return -1;
    }
    return 0;
}

static PyObject *plan_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *names, *signature, *shapes, *keys, *makers, *dtypes;
    const char *kinds;
    Py_ssize_t inputs;
    int is_default;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!Spy#O!O!O!O!", &PyTuple_Type, &names, &signature, &is_default,
                          &kinds, &inputs, &PyTuple_Type, &shapes, &PyTuple_Type, &keys,
                          &PyTuple_Type, &makers, &PyTuple_Type, &dtypes))
        return NULL;
    if (inputs < 1 || inputs > MOST_INPUTS || PyTuple_Size(names) != inputs ||
        PyTuple_Size(shapes) != inputs || PyTuple_Size(keys) != inputs ||
        PyTuple_Size(makers) != inputs || PyTuple_Size(dtypes) != inputs) {
        PyErr_SetString(PyExc_ValueError, "one of each for every input is wanted");
        return NULL;
    }
    Plan *plan = (Plan *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!plan)
        return NULL;
    plan->inputs = inputs;
    plan->is_default = is_default;
    plan->kept = Py_NewRef(args);
    plan->keys = keys;
    plan->makers = makers;
    plan->dtypes = dtypes;
    plan->name = calloc((size_t)inputs, sizeof *plan->name);
    plan->name_size = calloc((size_t)inputs, sizeof *plan->name_size);
    plan->kind = calloc((size_t)inputs, 1);
    plan->rank = calloc((size_t)inputs, sizeof *plan->rank);
    plan->wanted = calloc((size_t)inputs, sizeof *plan->wanted);
    plan->signature = PyBytes_AsString(signature);
    plan->signature_size = PyBytes_Size(signature);
    int failed = 0;
    if (!plan->name || !plan->name_size || !plan->kind || !plan->rank || !plan->wanted) {
        PyErr_NoMemory();
        failed = 1;
    }
    for (Py_ssize_t i = 0; i < inputs && !failed; i++)
        failed = plan_input(plan, i, PyTuple_GetItem(names, i), kinds[i],
                            PyTuple_GetItem(shapes, i)) < 0;
    if (!failed)
        return (PyObject *)plan;
    Py_DECREF(plan);
    return NULL;
}

static PyMethodDef plan_methods[] = {
    {"decode", plan_decode, METH_O, "decode(body): ({name: tensor}, by row), or None: leave it"},
    {NULL, NULL, 0, NULL}};

static PyType_Slot plan_slots[] = {{Py_tp_new, plan_new},
                                   {Py_tp_dealloc, plan_dealloc},
                                   {Py_tp_methods, plan_methods},
                                   {0, NULL}};
static PyType_Spec plan_spec = {"martlet.native._rows.Plan", sizeof(Plan), 0, Py_TPFLAGS_DEFAULT,
                                plan_slots};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_rows", "JSON bodies to columns.", -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__rows(void)
{
    PyObject *m = PyModule_Create(&module);
    PyTypeObject *plan_type = (PyTypeObject *)PyType_FromSpec(&plan_spec);
    block_type = (PyTypeObject *)PyType_FromSpec(&block_spec);
    if (!m || !plan_type || !block_type || PyModule_AddType(m, plan_type) < 0) {
        Py_XDECREF(m);
        return NULL;
    }
    return m;
}
