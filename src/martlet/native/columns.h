/* JSON values read straight into columns of memory that numpy takes over.
 *
 * One pass, no recursion. A value takes at least two bytes of the body and at most eight of a
 * column, which grows by halves: memory stays under a small multiple of the body.
 */
#ifndef MARTLET_COLUMNS_H
#define MARTLET_COLUMNS_H
#include "json_numbers.h"
#include "objects.h"

#define MOST_RANK 8

typedef enum { BOOL, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, FLOAT32, FLOAT64,
               STRING, KINDS } Kind;

typedef struct {
    char *data;        /* [used], of *room*; NULL for strings */
    Py_ssize_t used, room; /* bytes */
    PyObject *strings; /* a list, for strings */
    int leaf_depth;    /* of lists around a value; -1 before the first */
    Py_ssize_t size[MOST_RANK]; /* of each list by depth; -1 before the first has ended */
    Py_ssize_t seen;   /* the row that last had it; 0: it did not come */
} Column;

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
    free(((Block *)self)->data);
    free_object(self);
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
    Block *b = new_object(block_type);
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

/* ---- runs of values ----------------------------------------------------------------------- */

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

#endif
