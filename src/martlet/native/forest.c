/*
 * Decision trees over a float matrix: the compiled twin of martlet/formats/forest.py.
 *
 * A node sends a row to child[0] (x <= threshold, or x in a set of codes), child[1] (not) or
 * child[2] (x is NaN). A child below zero is a leaf whose answer is -child - 2, so answer -1 (no
 * answer) is child -1. Children come after their parents, which the constructor checks: every
 * walk ends, whatever the file held.
 *
 * A walk is a chain of dependent loads, so LANES of them run side by side: the rows of a block
 * down one tree, or the trees of a forest over one row.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 8
#define BLOCK_BYTES (1 << 18) /* of rows walked down one tree after the other */
#define BLOCK_ROWS 256
#define GIL_WORK 4000 /* row-tree pairs above which the GIL is let go: about 20 us */
#define STACK_FEATURES 512
#define STACK_OUTPUTS 64

typedef struct {
    double threshold; /* or, where feature < 0, the number of the set */
    int32_t feature;  /* ~feature where the test is membership */
    int32_t child[3];
} Node64;

typedef struct {
    float threshold;
    int32_t feature;
    int32_t child[3];
} Node32;

typedef struct {
    int64_t start; /* first word in words */
    int64_t base;  /* the word number that it holds: codes from base * 64 */
    int64_t size;  /* words */
} Set;

typedef struct {
    PyObject_HEAD
    int32_t features, trees, nodes, answers;
    int single; /* float32 nodes and rows */
    int32_t *roots;
    Node64 *node64;
    Node32 *node32;
    Set *sets;
    uint64_t *words;
} Forest;

typedef struct {
    PyObject_HEAD
    Forest *forest;
    int32_t outputs;
    int single;      /* accumulate in float32 */
    int32_t *target; /* per tree, or NULL: values has one column per output */
    double *values;  /* [answers + 1, columns]; the last row is what no answer adds */
    double *weights; /* per tree */
    double *start;   /* per output */
} Sum;

static PyTypeObject *forest_type, *sum_type;

/* ---- walking ------------------------------------------------------------------------------ */

static int is_member(const Forest *f, int64_t number, double x)
{
    if (!(x >= 0.0 && x < 2147483648.0))
        return 0;
    const int64_t code = (int64_t)x;
    if ((double)code != x)
        return 0;
    const Set *set = &f->sets[number];
    const int64_t word = (code >> 6) - set->base;
    if (word < 0 || word >= set->size)
        return 0;
    return (int)(f->words[set->start + word] >> (code & 63)) & 1;
}

/* Walks *lanes* (row, root) pairs to their leaves. Lane k reads the row x + k * stride. */
#define DEFINE_WALK(NAME, NODE, REAL)                                                          \
    static inline int32_t NAME##_next(const Forest *f, const NODE *node, const REAL *x)        \
    {                                                                                          \
        if (node->feature >= 0) {                                                              \
            const REAL v = x[node->feature];                                                   \
            return node->child[!(v <= node->threshold) + (v != v)];                            \
        }                                                                                      \
        const REAL v = x[~node->feature];                                                      \
        return node->child[v != v ? 2 : !is_member(f, (int64_t)node->threshold, (double)v)];   \
    }                                                                                          \
    static void NAME(const Forest *f, const REAL *x, Py_ssize_t stride, int32_t *at, int lanes) \
    {                                                                                          \
        const NODE *nodes = f->NAME##_NODES;                                                   \
        if (lanes == LANES) {                                                                  \
            int32_t ended;                                                                     \
            int32_t n[LANES];                                                                  \
            memcpy(n, at, sizeof n);                                                           \
            ended = n[0];                                                                      \
            for (int k = 1; k < LANES; k++)                                                    \
                ended &= n[k];                                                                 \
            while (ended >= 0) {                                                               \
                ended = -1;                                                                    \
                for (int k = 0; k < LANES; k++) {                                              \
                    if (n[k] >= 0)                                                             \
                        n[k] = NAME##_next(f, nodes + n[k], x + k * stride);                   \
                    ended &= n[k];                                                             \
                }                                                                              \
            }                                                                                  \
            memcpy(at, n, sizeof n);                                                           \
            return;                                                                            \
        }                                                                                      \
        for (int k = 0; k < lanes; k++)                                                        \
            while (at[k] >= 0)                                                                 \
                at[k] = NAME##_next(f, nodes + at[k], x + k * stride);                         \
    }

#define walk64_NODES node64
#define walk32_NODES node32
DEFINE_WALK(walk64, Node64, double)
DEFINE_WALK(walk32, Node32, float)

static void walk(const Forest *f, const void *x, Py_ssize_t stride, int32_t *at, int lanes)
{
    if (f->single)
        walk32(f, x, stride, at, lanes);
    else
        walk64(f, x, stride, at, lanes);
}

static inline int32_t answer_of(int32_t at) { return -at - 2; }

static const void *row_at(const Forest *f, const void *rows, Py_ssize_t row)
{
    const Py_ssize_t offset = row * f->features;
    return f->single ? (const void *)((const float *)rows + offset)
                     : (const void *)((const double *)rows + offset);
}

static Py_ssize_t block_rows(const Forest *f)
{
    const Py_ssize_t bytes = (Py_ssize_t)f->features * (Py_ssize_t)sizeof(double);
    Py_ssize_t rows = bytes ? BLOCK_BYTES / bytes : BLOCK_ROWS;
    rows -= rows % LANES;
    return rows < LANES ? LANES : rows > BLOCK_ROWS ? BLOCK_ROWS : rows;
}

/* Adds what *tree* says to the sums of one row: [outputs]. */
static inline void add(const Sum *s, int32_t tree, int32_t at, double *sums)
{
    const int32_t answer = answer_of(at);
    const Py_ssize_t row = answer < 0 ? s->forest->answers : answer;
    const double weight = s->weights[tree];
    if (s->target) {
        double *sum = sums + s->target[tree];
        /* Sums and products of two floats rounded from double are those of float arithmetic. */
        if (s->single)
            *sum = (float)(*sum + (float)(weight * s->values[row]));
        else
            *sum += weight * s->values[row];
        return;
    }
    const double *values = s->values + row * s->outputs;
    if (s->single)
        for (int32_t k = 0; k < s->outputs; k++)
            sums[k] = (float)(sums[k] + (float)(weight * values[k]));
    else
        for (int32_t k = 0; k < s->outputs; k++)
            sums[k] += weight * values[k];
}

/* One row over all trees: LANES trees at a time. *leaves* [trees] or *s* with *sums* [outputs]. */
static void walk_row(const Forest *f, const void *x, int32_t *leaves, const Sum *s, double *sums)
{
    for (int32_t tree = 0; tree < f->trees; tree += LANES) {
        int32_t at[LANES];
        const int lanes = f->trees - tree < LANES ? (int)(f->trees - tree) : LANES;
        memcpy(at, f->roots + tree, (size_t)lanes * sizeof *at);
        walk(f, x, 0, at, lanes);
        for (int k = 0; k < lanes; k++) {
            if (leaves)
                leaves[tree + k] = answer_of(at[k]);
            if (s)
                add(s, tree + k, at[k], sums);
        }
    }
}

/* A block of rows, tree by tree, so that a tree's nodes stay in the cache. */
static void walk_block(const Forest *f, const void *x, Py_ssize_t rows, int32_t *leaves,
                       const Sum *s, double *sums)
{
    for (int32_t tree = 0; tree < f->trees; tree++)
        for (Py_ssize_t row = 0; row < rows; row += LANES) {
            int32_t at[LANES];
            const int lanes = rows - row < LANES ? (int)(rows - row) : LANES;
            for (int k = 0; k < lanes; k++)
                at[k] = f->roots[tree];
            walk(f, row_at(f, x, row), f->features, at, lanes);
            for (int k = 0; k < lanes; k++) {
                if (leaves)
                    leaves[(row + k) * f->trees + tree] = answer_of(at[k]);
                if (s)
                    add(s, tree, at[k], sums + (row + k) * s->outputs);
            }
        }
}

/* Copies *count* values into the forest's own precision. */
static void convert(const Forest *f, const void *from, int from_single, void *to, Py_ssize_t count)
{
    if (f->single && !from_single)
        for (Py_ssize_t i = 0; i < count; i++)
            ((float *)to)[i] = (float)((const double *)from)[i];
    else if (!f->single && from_single)
        for (Py_ssize_t i = 0; i < count; i++)
            ((double *)to)[i] = ((const float *)from)[i];
}

/* All rows, block by block; returns -1 without memory. Needs no GIL. */
static int walk_rows(const Forest *f, const char *x, int x_single, Py_ssize_t rows,
                     int32_t *leaves, const Sum *s, double *sums)
{
    const int converts = f->single != x_single;
    const size_t item = x_single ? sizeof(float) : sizeof(double);
    const Py_ssize_t most = block_rows(f);
    void *scratch = NULL;
    if (converts && f->features) {
        const size_t block = (size_t)(rows < most ? rows : most);
        scratch = malloc(block * (size_t)f->features * sizeof(double) + 1);
        if (!scratch)
            return -1;
    }
    for (Py_ssize_t row = 0; row < rows; row += most) {
        const Py_ssize_t block = rows - row < most ? rows - row : most;
        const void *from = x + (size_t)(row * f->features) * item;
        if (scratch) {
            convert(f, from, x_single, scratch, block * f->features);
            from = scratch;
        }
        int32_t *to = leaves ? leaves + row * f->trees : NULL;
        double *into = s ? sums + row * s->outputs : NULL;
        if (block < LANES)
            for (Py_ssize_t k = 0; k < block; k++)
                walk_row(f, row_at(f, from, k), to ? to + k * f->trees : NULL, s,
                         into ? into + k * s->outputs : NULL);
        else
            walk_block(f, from, block, to, s, into);
    }
    free(scratch);
    return 0;
}

/* ---- buffers ------------------------------------------------------------------------------ */

static int get_buffer(PyObject *object, Py_buffer *view, const char *what, char kind, int flags)
{
    if (PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | flags) < 0)
        return -1;
    const char *format = view->format ? view->format : "B";
    if (*format == '@' || *format == '=')
        format++;
    const int is_long = (*format == 'l' || *format == 'L') && format[1] == 0;
    char found = format[1] ? '?' : *format;
    if (is_long)
        found = view->itemsize == 8 ? (*format == 'l' ? 'q' : 'Q') : (*format == 'l' ? 'i' : 'I');
    if (kind != 'r' ? found != kind : found != 'd' && found != 'f') {
        PyErr_Format(PyExc_TypeError, "%s: items of format %s", what,
                     view->format ? view->format : "B");
        PyBuffer_Release(view);
        return -1;
    }
    return 0;
}

/* Returns a copy of the *count* items of *object* (any number where count < 0). */
static void *copy_items(PyObject *object, const char *what, char kind, Py_ssize_t *count)
{
    Py_buffer view;
    if (get_buffer(object, &view, what, kind, PyBUF_SIMPLE) < 0)
        return NULL;
    const Py_ssize_t found = view.len / view.itemsize;
    void *copy = NULL;
    if (*count >= 0 && found != *count)
        PyErr_Format(PyExc_ValueError, "%s: %zd items where %zd are wanted", what, found, *count);
    else if ((copy = malloc((size_t)view.len + 1)) == NULL)
        PyErr_NoMemory();
    else
        memcpy(copy, view.buf, (size_t)view.len);
    *count = found;
    PyBuffer_Release(&view);
    return copy;
}

/* Reads one row, a float array or a list or tuple of numbers (None: missing), into *to*. */
static int read_row(const Forest *f, PyObject *object, void *to)
{
    const int is_list = PyList_Check(object);
    if (is_list || PyTuple_Check(object)) {
        const Py_ssize_t size = is_list ? PyList_Size(object) : PyTuple_Size(object);
        if (size != f->features) {
            PyErr_Format(PyExc_ValueError, "a row of %zd values where %d are wanted", size,
                         (int)f->features);
            return -1;
        }
        for (Py_ssize_t i = 0; i < size; i++) {
            PyObject *item = is_list ? PyList_GetItem(object, i) : PyTuple_GetItem(object, i);
            double value;
            if (item == NULL)
                return -1; /* the list shrank under a number's own __float__ */
            if (item == Py_None)
                value = Py_NAN;
            else {
                Py_INCREF(item);
                value = PyFloat_AsDouble(item);
                Py_DECREF(item);
                if (value == -1.0 && PyErr_Occurred())
                    return -1;
            }
            if (f->single)
                ((float *)to)[i] = (float)value;
            else
                ((double *)to)[i] = value;
        }
        return 0;
    }
    Py_buffer view;
    if (get_buffer(object, &view, "row", 'r', PyBUF_SIMPLE) < 0)
        return -1;
    const int from_single = view.itemsize == (Py_ssize_t)sizeof(float);
    int result = -1;
    if (view.len / view.itemsize != f->features)
        PyErr_Format(PyExc_ValueError, "a row of %zd values where %d are wanted",
                     view.len / view.itemsize, (int)f->features);
    else {
        if (from_single == f->single)
            memcpy(to, view.buf, (size_t)view.len);
        else
            convert(f, view.buf, from_single, to, f->features);
        result = 0;
    }
    PyBuffer_Release(&view);
    return result;
}

static void *row_space(const Forest *f, double *stack)
{
    if (f->features <= STACK_FEATURES)
        return stack;
    void *space = malloc((size_t)f->features * sizeof(double));
    if (!space)
        PyErr_NoMemory();
    return space;
}

/* ---- Forest ------------------------------------------------------------------------------- */

static void forest_dealloc(PyObject *self)
{
    Forest *f = (Forest *)self;
    PyTypeObject *type = Py_TYPE(self);
    free(f->roots);
    free(f->node64);
    free(f->node32);
    free(f->sets);
    free(f->words);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static int bad(const char *what, Py_ssize_t at)
{
    PyErr_Format(PyExc_ValueError, "%s out of range at %zd", what, at);
    return -1;
}

/* Packs and checks the nodes; every index that a walk follows is in range after this. */
static int pack(Forest *f, const int32_t *feature, const double *threshold,
                const int32_t *children, const int32_t *set_of, Py_ssize_t sets)
{
    const size_t count = (size_t)f->nodes;
    int32_t answers = 0;
    if (f->single)
        f->node32 = malloc(count * sizeof(Node32) + 1);
    else
        f->node64 = malloc(count * sizeof(Node64) + 1);
    if (f->single ? !f->node32 : !f->node64) {
        PyErr_NoMemory();
        return -1;
    }
    for (int32_t i = 0; i < f->nodes; i++) {
        const int32_t *child = children + (Py_ssize_t)i * 3;
        const int in_set = set_of[i] >= 0;
        if (feature[i] < 0 || feature[i] >= f->features)
            return bad("feature", i);
        if (in_set && (set_of[i] >= sets || set_of[i] >= 1 << 24))
            return bad("set", i);
        for (int k = 0; k < 3; k++) {
            if (child[k] >= 0 ? child[k] <= i || child[k] >= f->nodes : child[k] < -INT32_MAX)
                return bad("child", i);
            if (child[k] < 0 && answer_of(child[k]) >= answers)
                answers = answer_of(child[k]) + 1;
        }
        const double t = in_set ? (double)set_of[i] : threshold[i];
        const int32_t column = in_set ? ~feature[i] : feature[i];
        if (f->single) {
            f->node32[i] = (Node32){(float)t, column, {child[0], child[1], child[2]}};
        } else {
            f->node64[i] = (Node64){t, column, {child[0], child[1], child[2]}};
        }
    }
    for (int32_t i = 0; i < f->trees; i++) {
        if (f->roots[i] >= f->nodes || f->roots[i] < -INT32_MAX)
            return bad("root", i);
        if (f->roots[i] < 0 && answer_of(f->roots[i]) >= answers)
            answers = answer_of(f->roots[i]) + 1;
    }
    f->answers = answers;
    return 0;
}

static PyObject *forest_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    int features, single;
    PyObject *o_roots, *o_feature, *o_threshold, *o_children, *o_set_of, *o_sets, *o_words;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "ipOOOOOOO", &features, &single, &o_roots, &o_feature,
                          &o_threshold, &o_children, &o_set_of, &o_sets, &o_words))
        return NULL;
    if (features < 0) {
        PyErr_SetString(PyExc_ValueError, "features is negative");
        return NULL;
    }
    Forest *f = (Forest *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!f)
        return NULL;
    f->features = features;
    f->single = single;
    Py_ssize_t trees = -1, nodes = -1, triples, sets = -1, words = -1;
    int32_t *feature = NULL, *children = NULL, *set_of = NULL;
    double *threshold = NULL;
    int64_t *set_rows = NULL;
    int ok = 0;
    if (!(f->roots = copy_items(o_roots, "roots", 'i', &trees)))
        goto done;
    if (!(feature = copy_items(o_feature, "feature", 'i', &nodes)))
        goto done;
    if (trees > INT32_MAX - LANES || nodes > INT32_MAX / 4) {
        PyErr_SetString(PyExc_ValueError, "too many nodes");
        goto done;
    }
    triples = nodes * 3;
    if (!(threshold = copy_items(o_threshold, "threshold", 'd', &nodes)) ||
        !(children = copy_items(o_children, "children", 'i', &triples)) ||
        !(set_of = copy_items(o_set_of, "set_of", 'i', &nodes)) ||
        !(set_rows = copy_items(o_sets, "sets", 'q', &sets)) ||
        !(f->words = copy_items(o_words, "words", 'Q', &words)))
        goto done;
    if (sets % 3) {
        PyErr_SetString(PyExc_ValueError, "sets: three columns are wanted");
        goto done;
    }
    sets /= 3;
    if (!(f->sets = malloc((size_t)sets * sizeof(Set) + 1))) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < sets; i++) {
        const int64_t *row = set_rows + i * 3;
        if (row[0] < 0 || row[1] < 0 || row[2] < 0 || row[0] > words || row[2] > words - row[0]) {
            bad("set", i);
            goto done;
        }
        f->sets[i] = (Set){row[0], row[1], row[2]};
    }
    f->trees = (int32_t)trees;
    f->nodes = (int32_t)nodes;
    ok = pack(f, feature, threshold, children, set_of, sets) == 0;
done:
    free(feature);
    free(threshold);
    free(children);
    free(set_of);
    free(set_rows);
    if (!ok) {
        Py_DECREF(f);
        return NULL;
    }
    return (PyObject *)f;
}

/* Opens X [rows, features] and *out* of *item* with *width* items a row; the number of rows. */
static Py_ssize_t open_matrix(const Forest *f, PyObject *const *args, Py_ssize_t nargs,
                              Py_buffer *x, Py_buffer *out, char kind, Py_ssize_t width)
{
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "(x, out) are wanted");
        return -1;
    }
    if (get_buffer(args[0], x, "x", 'r', PyBUF_SIMPLE) < 0)
        return -1;
    if (get_buffer(args[1], out, "out", kind, PyBUF_WRITABLE) < 0) {
        PyBuffer_Release(x);
        return -1;
    }
    const Py_ssize_t rows = x->ndim == 2 ? x->shape[0] : -1;
    if (rows < 0 || x->shape[1] != f->features || out->len / out->itemsize != rows * width) {
        PyErr_Format(PyExc_ValueError, "x of %d columns, and out to match, are wanted",
                     (int)f->features);
        PyBuffer_Release(x);
        PyBuffer_Release(out);
        return -1;
    }
    return rows;
}

static PyObject *close_matrix(Py_buffer *x, Py_buffer *out, int failed)
{
    PyBuffer_Release(x);
    PyBuffer_Release(out);
    if (failed)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static int run(const Forest *f, const Py_buffer *x, Py_ssize_t rows, int32_t *leaves,
               const Sum *s, double *sums)
{
    const int x_single = x->itemsize == (Py_ssize_t)sizeof(float);
    int failed;
    if ((double)rows * f->trees < GIL_WORK)
        return walk_rows(f, x->buf, x_single, rows, leaves, s, sums);
    Py_BEGIN_ALLOW_THREADS
    failed = walk_rows(f, x->buf, x_single, rows, leaves, s, sums);
    Py_END_ALLOW_THREADS
    return failed;
}

static PyObject *forest_leaves(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    Forest *f = (Forest *)self;
    Py_buffer x, out;
    const Py_ssize_t rows = open_matrix(f, args, nargs, &x, &out, 'i', f->trees);
    if (rows < 0)
        return NULL;
    return close_matrix(&x, &out, run(f, &x, rows, out.buf, NULL, NULL));
}

static PyObject *forest_row(PyObject *self, PyObject *row)
{
    Forest *f = (Forest *)self;
    double stack[STACK_FEATURES];
    PyObject *list = NULL;
    int32_t *leaves = NULL;
    void *x = row_space(f, stack);
    if (!x)
        return NULL;
    if (read_row(f, row, x) < 0)
        goto done;
    if (!(leaves = malloc((size_t)f->trees * sizeof(int32_t) + 1))) {
        PyErr_NoMemory();
        goto done;
    }
    walk_row(f, x, leaves, NULL, NULL);
    if (!(list = PyList_New(f->trees)))
        goto done;
    for (int32_t i = 0; i < f->trees; i++) {
        PyObject *item = PyLong_FromLong(leaves[i]);
        if (!item) {
            Py_CLEAR(list);
            break;
        }
        PyList_SetItem(list, i, item);
    }
done:
    free(leaves);
    if (x != stack)
        free(x);
    return list;
}

static PyMethodDef forest_methods[] = {
    {"leaves", (PyCFunction)(void (*)(void))forest_leaves, METH_FASTCALL,
     "leaves(x, out): fill out, int32 [rows, trees], for x, float32 or float64 [rows, features]"},
    {"row", forest_row, METH_O, "row(x): the answers of the trees for one row, a list"},
    {NULL, NULL, 0, NULL}};

static PyType_Slot forest_slots[] = {{Py_tp_new, forest_new},
                                     {Py_tp_dealloc, forest_dealloc},
                                     {Py_tp_methods, forest_methods},
                                     {0, NULL}};

static PyType_Spec forest_spec = {"martlet.native._forest.Forest", sizeof(Forest), 0,
                                  Py_TPFLAGS_DEFAULT, forest_slots};

/* ---- Sum ---------------------------------------------------------------------------------- */

static void sum_dealloc(PyObject *self)
{
    Sum *s = (Sum *)self;
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF((PyObject *)s->forest);
    free(s->target);
    free(s->values);
    free(s->weights);
    free(s->start);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *sum_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *o_forest, *o_values, *o_target, *o_weights, *o_start;
    int single;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OOOOOp", &o_forest, &o_values, &o_target, &o_weights, &o_start,
                          &single))
        return NULL;
    if (Py_TYPE(o_forest) != forest_type) {
        PyErr_SetString(PyExc_TypeError, "a Forest is wanted");
        return NULL;
    }
    Sum *s = (Sum *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!s)
        return NULL;
    Py_INCREF(o_forest);
    Forest *f = s->forest = (Forest *)o_forest;
    s->single = single;
    Py_ssize_t trees = f->trees, outputs = -1, cells;
    if (!(s->start = copy_items(o_start, "start", 'd', &outputs)) ||
        !(s->weights = copy_items(o_weights, "weights", 'd', &trees)))
        goto fail;
    if (outputs < 1 || outputs > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "start: one value per output is wanted");
        goto fail;
    }
    s->outputs = (int32_t)outputs;
    if (o_target != Py_None) {
        if (!(s->target = copy_items(o_target, "target", 'i', &trees)))
            goto fail;
        for (int32_t i = 0; i < f->trees; i++)
            if (s->target[i] < 0 || s->target[i] >= s->outputs) {
                bad("target", i);
                goto fail;
            }
    }
    cells = ((Py_ssize_t)f->answers + 1) * (s->target ? 1 : outputs);
    if (!(s->values = copy_items(o_values, "values", 'd', &cells)))
        goto fail;
    return (PyObject *)s;
fail:
    Py_DECREF(s);
    return NULL;
}

static PyObject *sum_rows(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    Sum *s = (Sum *)self;
    Py_buffer x, out;
    const Py_ssize_t rows = open_matrix(s->forest, args, nargs, &x, &out, 'd', s->outputs);
    if (rows < 0)
        return NULL;
    for (Py_ssize_t row = 0; row < rows; row++)
        memcpy((double *)out.buf + row * s->outputs, s->start,
               (size_t)s->outputs * sizeof(double));
    return close_matrix(&x, &out, run(s->forest, &x, rows, NULL, s, out.buf));
}

static PyObject *sum_row(PyObject *self, PyObject *row)
{
    Sum *s = (Sum *)self;
    double stack[STACK_FEATURES], few[STACK_OUTPUTS];
    double *sums = few;
    PyObject *list = NULL;
    void *x = row_space(s->forest, stack);
    if (!x)
        return NULL;
    if (read_row(s->forest, row, x) < 0)
        goto done;
    if (s->outputs > STACK_OUTPUTS &&
        !(sums = malloc((size_t)s->outputs * sizeof(double)))) {
        PyErr_NoMemory();
        goto done;
    }
    memcpy(sums, s->start, (size_t)s->outputs * sizeof(double));
    walk_row(s->forest, x, NULL, s, sums);
    if (!(list = PyList_New(s->outputs)))
        goto done;
    for (int32_t k = 0; k < s->outputs; k++) {
        PyObject *item = PyFloat_FromDouble(sums[k]);
        if (!item) {
            Py_CLEAR(list);
            break;
        }
        PyList_SetItem(list, k, item);
    }
done:
    if (sums != few)
        free(sums);
    if (x != stack)
        free(x);
    return list;
}

static PyMethodDef sum_methods[] = {
    {"rows", (PyCFunction)(void (*)(void))sum_rows, METH_FASTCALL,
     "rows(x, out): fill out, float64 [rows, outputs]"},
    {"row", sum_row, METH_O, "row(x): the sums for one row, a list"},
    {NULL, NULL, 0, NULL}};

static PyType_Slot sum_slots[] = {{Py_tp_new, sum_new},
                                  {Py_tp_dealloc, sum_dealloc},
                                  {Py_tp_methods, sum_methods},
                                  {0, NULL}};

static PyType_Spec sum_spec = {"martlet.native._forest.Sum", sizeof(Sum), 0, Py_TPFLAGS_DEFAULT,
                               sum_slots};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_forest", "Decision trees over a float matrix.", -1, NULL, NULL, NULL,
    NULL, NULL};

PyMODINIT_FUNC PyInit__forest(void)
{
    PyObject *m = PyModule_Create(&module);
    if (!m)
        return NULL;
    forest_type = (PyTypeObject *)PyType_FromSpec(&forest_spec);
    sum_type = (PyTypeObject *)PyType_FromSpec(&sum_spec);
    if (!forest_type || !sum_type || PyModule_AddType(m, forest_type) < 0 ||
        PyModule_AddType(m, sum_type) < 0) {
        Py_DECREF(m);
        return NULL;
    }
    return m;
}
