/*
 * Decision trees over a float matrix: the compiled twin of martlet/formats/forest.py.
 *
 * A node sends a row to child[0] (x <= threshold, or x in a set of codes), child[1] (not) or
 * child[2] (x is NaN). Inner nodes come first, each before its children, which the constructor
 * checks: every walk ends, whatever the file held. After them comes one leaf for each answer
 * (for -1, no answer, then 0, 1, ...), whose children are itself: a walk that has ended may go on
 * stepping in place, so that LANES walks need no branch. Children are byte offsets into the nodes.
 *
 * Most sets fit in the codes 0..63: they are a mask in the node, and every value comes with its
 * code, a byte, so that such a test needs no branch either. Other sets are looked up.
 *
 * A walk is a chain of dependent loads, so LANES of them run side by side: rows down one tree, or
 * trees over one row.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "arrays.h"

#define LANES 16
#define MOST_GROUPS 16          /* of LANES rows, walked down one tree after the other */
#define GROUPS_BYTES (1 << 18)  /* of all their values */
#define WIDE_BYTES (1 << 20)    /* of one group: past this, rows are walked one by one */
#define SURE_STEPS 6            /* before asking whether all lanes have ended */
#define GIL_WORK 8000           /* row-tree pairs above which the GIL is let go: about 40 us */
#define STACK_FEATURES 512
#define STACK_ROW (STACK_FEATURES + STACK_FEATURES / 8) /* doubles: the values and their codes */
#define STACK_OUTPUTS 64

#define NO_CODE 64           /* of a value that is no integer in 0..63 */
#define LOOKED_UP (1 << 30) /* in ~feature: of a set that is no mask */
#define MOST_FEATURES LOOKED_UP

typedef struct {
    union {
        double threshold;
        uint64_t mask; /* or the number of the set, where it is looked up */
    } test;
    int32_t feature; /* ~feature where the test is membership; 0 in leaves */
    uint32_t child[3];
} Node64;

typedef struct {
    struct {
        float threshold;
    } test;
    int32_t feature;
    uint32_t child[3];
} Node32;

typedef struct {
    int64_t start; /* first word in words */
    int64_t base;  /* the word number that it holds: codes from base * 64 */
    int64_t size;  /* words */
} Set;

typedef struct {
    PyObject_HEAD
    int32_t features, trees, nodes, answers;
    int rounds;      /* values are rounded to float32 */
    int has_sets;    /* then nodes are Node64, and values have codes */
    int narrow;      /* nodes and values are of 32 bits: it rounds, and has no sets */
    uint32_t leaf0;  /* offset of the first leaf */
    uint32_t *roots; /* offsets, padded with leaf0 to a multiple of LANES */
    int32_t *depth;  /* of each tree: the most steps to a leaf; padded with 0 */
    void *tree_nodes; /* Node64 or Node32 [nodes + 1 + answers] */
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

static inline int is_member(const Forest *f, int64_t number, double x)
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

/*
 * NAME takes LANES offsets in *at* to their leaves, in at most *depth* steps. Lane k reads feature
 * i at i * SPREAD + k * APART: a group of rows (LANES, 1), or one row for all lanes (1, 0).
 */
#define COLUMN_PLAIN(node) ((node)->feature)
#define COLUMN_SETS(node) (((node)->feature ^ ((node)->feature >> 31)) & (LOOKED_UP - 1))

#define STEP_PLAIN(f, node, v, code) (!(v <= (node)->test.threshold))
#define STEP_NAN(f, node, v, code) (!(v <= (node)->test.threshold) + (v != v))
#define STEP_SETS(f, node, v, code) step_sets(f, node, v, code)

static inline int step_sets(const Forest *f, const Node64 *node, double v, uint32_t code)
{
    const int in_set = node->feature < 0;
    const int above = !(v <= node->test.threshold);
    int outside = !((node->test.mask >> (code & 63)) & (code < NO_CODE));
    if (in_set && (~node->feature & LOOKED_UP))
        outside = v != v || !is_member(f, (int64_t)node->test.mask, v);
    return (above ^ ((above ^ outside) & -in_set)) + (v != v);
}

#define DEFINE_WALK(NAME, NODE, REAL, COLUMN, STEP, SPREAD, APART)                            \
    static void NAME(const Forest *f, const void *rows, const uint8_t *codes, uint32_t *at,   \
                     int32_t depth)                                                           \
    {                                                                                         \
        const char *nodes = f->tree_nodes;                                                    \
        const REAL *x = rows;                                                                 \
        uint32_t n[LANES];                                                                    \
        (void)codes;                                                                          \
        memcpy(n, at, sizeof n);                                                              \
        for (int32_t left = depth; left > 0; left--) {                                        \
            if (depth - left >= SURE_STEPS && (depth - left) % 2 == 0) {                      \
                int32_t live = 0;                                                             \
                for (int k = 0; k < LANES; k++)                                               \
                    live |= (int32_t)(n[k] - f->leaf0);                                       \
                if (live >= 0)                                                                \
                    break;                                                                    \
            }                                                                                 \
            for (int k = 0; k < LANES; k++) {                                                 \
                const NODE *node = (const NODE *)(nodes + n[k]);                              \
                const Py_ssize_t i = (Py_ssize_t)COLUMN(node) * (SPREAD) + k * (APART);       \
                const REAL v = x[i];                                                          \
                n[k] = node->child[STEP(f, node, v, codes[i])];                               \
            }                                                                                 \
        }                                                                                     \
        memcpy(at, n, sizeof n);                                                              \
    }

DEFINE_WALK(rows_plain64, Node64, double, COLUMN_PLAIN, STEP_PLAIN, LANES, 1)
DEFINE_WALK(rows_nan64, Node64, double, COLUMN_PLAIN, STEP_NAN, LANES, 1)
DEFINE_WALK(rows_sets64, Node64, double, COLUMN_SETS, STEP_SETS, LANES, 1)
DEFINE_WALK(rows_plain32, Node32, float, COLUMN_PLAIN, STEP_PLAIN, LANES, 1)
DEFINE_WALK(rows_nan32, Node32, float, COLUMN_PLAIN, STEP_NAN, LANES, 1)
DEFINE_WALK(row_plain64, Node64, double, COLUMN_PLAIN, STEP_PLAIN, 1, 0)
DEFINE_WALK(row_nan64, Node64, double, COLUMN_PLAIN, STEP_NAN, 1, 0)
DEFINE_WALK(row_sets64, Node64, double, COLUMN_SETS, STEP_SETS, 1, 0)
DEFINE_WALK(row_plain32, Node32, float, COLUMN_PLAIN, STEP_PLAIN, 1, 0)
DEFINE_WALK(row_nan32, Node32, float, COLUMN_PLAIN, STEP_NAN, 1, 0)

typedef void (*Walk)(const Forest *, const void *, const uint8_t *, uint32_t *, int32_t);

/* Indexed by [one row][narrow][plain, with NaN, with sets]. */
static const Walk WALKS[2][2][3] = {
    {{rows_plain64, rows_nan64, rows_sets64}, {rows_plain32, rows_nan32, NULL}},
    {{row_plain64, row_nan64, row_sets64}, {row_plain32, row_nan32, NULL}}};

/* The code of a value: itself where it is an integer in 0..63. */
static inline uint8_t code_of(double v)
{
    const int in_range = v >= 0.0 && v < (double)NO_CODE;
    const int code = in_range ? (int)v : NO_CODE;
    return (uint8_t)((double)code == v ? code : NO_CODE);
}

static inline size_t node_size(const Forest *f)
{
    return f->narrow ? sizeof(Node32) : sizeof(Node64);
}

static inline int32_t answer_of(const Forest *f, uint32_t at)
{
    /* The sizes are constants, so that the divisions are multiplications. */
    const uint32_t offset = at - f->leaf0;
    return (int32_t)(f->narrow ? offset / sizeof(Node32) : offset / sizeof(Node64)) - 1;
}

/* Adds what *tree* says to the sums of one row: [outputs]. */
static inline void add(const Sum *s, int32_t tree, int32_t answer, double *sums)
{
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

/*
 * One row, in the forest's precision, over all trees: LANES trees at a time. *codes* is room for
 * [features] where the forest has sets.
 */
static void walk_row(const Forest *f, const void *x, uint8_t *codes, int32_t *leaves, const Sum *s,
                     double *sums)
{
    int has_nan = 0;
    if (f->has_sets)
        for (int32_t i = 0; i < f->features; i++)
            codes[i] = code_of(((const double *)x)[i]);
    else
        for (int32_t i = 0; i < f->features; i++)
            has_nan |= f->narrow ? ((const float *)x)[i] != ((const float *)x)[i]
                                 : ((const double *)x)[i] != ((const double *)x)[i];
    const Walk walk = WALKS[1][f->narrow][f->has_sets ? 2 : has_nan];
    for (int32_t tree = 0; tree < f->trees; tree += LANES) {
        uint32_t at[LANES];
        int32_t depth = 0;
        const int lanes = f->trees - tree < LANES ? (int)(f->trees - tree) : LANES;
        memcpy(at, f->roots + tree, sizeof at);
        for (int k = 0; k < LANES; k++)
            depth = f->depth[tree + k] > depth ? f->depth[tree + k] : depth;
        walk(f, x, codes, at, depth);
        for (int k = 0; k < lanes; k++) {
            const int32_t answer = answer_of(f, at[k]);
            if (leaves)
                leaves[tree + k] = answer;
            if (s)
                add(s, tree + k, answer, sums);
        }
    }
}

/* The bytes of LANES rows laid out: their values, then, where there are sets, their codes. */
static size_t values_bytes(const Forest *f)
{
    return (size_t)f->features * LANES * (f->narrow ? sizeof(float) : sizeof(double));
}

static size_t group_bytes(const Forest *f)
{
    const size_t codes = f->has_sets ? (size_t)f->features * LANES : 0;
    return (values_bytes(f) + codes + 7) / 8 * 8;
}

/* *groups* of LANES rows, tree by tree, so that a tree's nodes stay in the cache. */
static void walk_groups(const Forest *f, const char *x, const uint8_t *has_nan, int groups,
                        int32_t *leaves, const Sum *s, double *sums)
{
    const size_t stride = group_bytes(f), codes = values_bytes(f);
    for (int32_t tree = 0; tree < f->trees; tree++)
        for (int group = 0; group < groups; group++) {
            const char *values = x + (size_t)group * stride;
            uint32_t at[LANES];
            for (int k = 0; k < LANES; k++)
                at[k] = f->roots[tree];
            WALKS[0][f->narrow][f->has_sets ? 2 : has_nan[group]](
                f, values, (const uint8_t *)values + codes, at, f->depth[tree]);
            for (int k = 0; k < LANES; k++) {
                const Py_ssize_t row = (Py_ssize_t)group * LANES + k;
                const int32_t answer = answer_of(f, at[k]);
                if (leaves)
                    leaves[row * f->trees + tree] = answer;
                if (s)
                    add(s, tree, answer, sums + row * s->outputs);
            }
        }
}

/* Lays LANES rows out as [features, LANES] in the forest's precision; whether one has a NaN. */
#define DEFINE_SPREAD(NAME, FROM, ROUNDED, TO)                                                \
    static int NAME(const void *rows, void *group, Py_ssize_t features)                       \
    {                                                                                         \
        const FROM *from = rows;                                                              \
        TO *to = group;                                                                       \
        int has_nan = 0;                                                                      \
        for (Py_ssize_t i = 0; i < features; i++, to += LANES)                                \
            for (int k = 0; k < LANES; k++) {                                                 \
                const FROM v = from[k * features + i];                                        \
                to[k] = (TO)(ROUNDED)v;                                                       \
                has_nan |= v != v;                                                            \
            }                                                                                 \
        return has_nan;                                                                       \
    }

DEFINE_SPREAD(spread_64_64, double, double, double)
DEFINE_SPREAD(spread_64_32, double, float, float)
DEFINE_SPREAD(spread_64_rounded, double, float, double)
DEFINE_SPREAD(spread_32_64, float, float, double)
DEFINE_SPREAD(spread_32_32, float, float, float)

static int spread(const Forest *f, const void *rows, int from_single, char *group)
{
    int has_nan;
    if (from_single)
        has_nan = (f->narrow ? spread_32_32 : spread_32_64)(rows, group, f->features);
    else
        has_nan = (f->narrow   ? spread_64_32
                   : f->rounds ? spread_64_rounded
                               : spread_64_64)(rows, group, f->features);
    if (f->has_sets) {
        const double *values = (const double *)(void *)group;
        uint8_t *codes = (uint8_t *)group + values_bytes(f);
        for (Py_ssize_t i = 0; i < (Py_ssize_t)f->features * LANES; i++)
            codes[i] = code_of(values[i]);
    }
    return has_nan;
}

/* Whether rows of that precision are in the forest's own. */
static int is_own(const Forest *f, int from_single)
{
    return from_single ? f->narrow : !f->rounds;
}

/* Where the codes are in the room of one row: after its values. */
static uint8_t *codes_in(const Forest *f, void *row)
{
    return (uint8_t *)row + (size_t)f->features * sizeof(double);
}

/* Copies one row of *from*, which may lie unaligned, into the forest's own precision. */
static void convert(const Forest *f, const char *from, int from_single, void *to)
{
    for (int32_t i = 0; i < f->features; i++) {
        float single;
        double v;
        if (from_single) {
            memcpy(&single, from + (size_t)i * sizeof single, sizeof single);
            v = single;
        } else {
            memcpy(&v, from + (size_t)i * sizeof v, sizeof v);
        }
        if (f->narrow)
            ((float *)to)[i] = (float)v;
        else
            ((double *)to)[i] = f->rounds ? (float)v : v;
    }
}

/* All rows; returns -1 without memory. Needs no GIL. */
static int walk_rows(const Forest *f, const char *x, int x_single, Py_ssize_t rows,
                     int32_t *leaves, const Sum *s, double *sums)
{
    const size_t row_bytes = (size_t)f->features * (x_single ? sizeof(float) : sizeof(double));
    const size_t stride = group_bytes(f);
    const size_t fit = stride ? GROUPS_BYTES / stride : MOST_GROUPS;
    const int most = fit > MOST_GROUPS ? MOST_GROUPS : fit < 1 ? 1 : (int)fit;
    const Py_ssize_t in_groups = stride > WIDE_BYTES ? 0 : rows - rows % LANES;
    const int converts = !is_own(f, x_single);
    uint8_t has_nan[MOST_GROUPS];
    const Py_ssize_t at_once = in_groups / LANES < most ? in_groups / LANES : most;
    /* One row and its codes take less than a group. */
    char *scratch = malloc(
        at_once ? stride * (size_t)at_once : (size_t)f->features * (sizeof(double) + 1) + 1);
    if (!scratch)
        return -1;
    for (Py_ssize_t row = 0; row < in_groups;) {
        int groups = 0;
        for (; groups < most && row + groups * LANES < in_groups; groups++)
            has_nan[groups] = (uint8_t)spread(f, x + (size_t)(row + groups * LANES) * row_bytes,
                                              x_single, scratch + (size_t)groups * stride);
        walk_groups(f, scratch, has_nan, groups, leaves ? leaves + row * f->trees : NULL, s,
                    s ? sums + row * s->outputs : NULL);
        row += (Py_ssize_t)groups * LANES;
    }
    for (Py_ssize_t row = in_groups; row < rows; row++) {
        const void *one = x + (size_t)row * row_bytes;
        if (converts) {
            convert(f, one, x_single, scratch);
            one = scratch;
        }
        walk_row(f, one, codes_in(f, scratch), leaves ? leaves + row * f->trees : NULL, s,
                 s ? sums + row * s->outputs : NULL);
    }
    free(scratch);
    return 0;
}

/* ---- rows as Python gives them ------------------------------------------------------------ */

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
            if (f->narrow)
                ((float *)to)[i] = (float)value;
            else
                ((double *)to)[i] = f->rounds ? (float)value : value;
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
        convert(f, view.buf, from_single, to);
        result = 0;
    }
    PyBuffer_Release(&view);
    return result;
}

/* Room for one row: doubles, then codes. */
static void *row_space(const Forest *f, double *stack)
{
    if (f->features <= STACK_FEATURES)
        return stack;
    void *space = malloc((size_t)f->features * (sizeof(double) + 1));
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
    free(f->depth);
    free(f->tree_nodes);
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

/* Where a walk goes for *child* of node *parent*: the byte offset; or -1, out of range. */
static int64_t offset_of(const Forest *f, int32_t child, int32_t parent)
{
    if (child >= 0)
        return child > parent && child < f->nodes ? child * (int64_t)node_size(f) : -1;
    /* Child -1 is the leaf of no answer, -2 that of answer 0. */
    return -(int64_t)child - 1 <= f->answers
               ? f->leaf0 + (-(int64_t)child - 1) * (int64_t)node_size(f)
               : -1;
}

/* Packs and checks the nodes; every index that a walk follows is in range after this. */
static int pack(Forest *f, const int32_t *roots, const int32_t *feature, const double *threshold,
                const int32_t *children, const int32_t *set_of, Py_ssize_t sets)
{
    int64_t lowest = -1;
    for (int64_t i = 0; i < (int64_t)f->nodes * 3; i++)
        lowest = children[i] < lowest ? children[i] : lowest;
    for (int32_t i = 0; i < f->trees; i++)
        lowest = roots[i] < lowest ? roots[i] : lowest;
    const int64_t count = (int64_t)f->nodes - lowest; /* with no answer: -lowest leaves */
    if (count * (int64_t)node_size(f) > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "too many nodes");
        return -1;
    }
    f->answers = (int32_t)(-lowest - 1);
    f->leaf0 = (uint32_t)((size_t)f->nodes * node_size(f));
    const size_t padded = ((size_t)f->trees + LANES - 1) / LANES * LANES;
    f->tree_nodes = calloc((size_t)count, node_size(f));
    f->roots = calloc(padded + 1, sizeof *f->roots);
    f->depth = calloc(padded + 1, sizeof *f->depth);
    int32_t *depth = calloc((size_t)f->nodes + 1, sizeof *depth);
    if (!f->tree_nodes || !f->roots || !f->depth || !depth) {
        free(depth);
        PyErr_NoMemory();
        return -1;
    }
    int32_t i;
    for (i = (int32_t)count - 1; i >= 0; i--) {
        uint32_t child[3];
        int32_t column = 0;
        Node64 node = {{0.0}, 0, {0, 0, 0}};
        if (i >= f->nodes) {
            child[0] = child[1] = child[2] = (uint32_t)((size_t)i * node_size(f));
        } else {
            const int in_set = set_of[i] >= 0;
            if (feature[i] < 0 || feature[i] >= f->features || (in_set && set_of[i] >= sets))
                break;
            column = feature[i];
            if (!in_set) {
                node.test.threshold = threshold[i];
            } else {
                const Set *set = &f->sets[set_of[i]];
                const int is_mask = set->size == 0 || (set->base == 0 && set->size == 1);
                column = ~(is_mask ? column : column | LOOKED_UP);
                node.test.mask = !is_mask     ? (uint64_t)set_of[i]
                                 : set->size ? f->words[set->start]
                                             : 0;
            }
            for (int k = 0; k < 3; k++) {
                const int32_t to = children[(Py_ssize_t)i * 3 + k];
                const int64_t offset = offset_of(f, to, i);
                if (offset < 0)
                    goto bad_child;
                child[k] = (uint32_t)offset;
                const int32_t below = to >= 0 ? depth[to] : 0;
                depth[i] = below + 1 > depth[i] ? below + 1 : depth[i];
            }
        }
        node.feature = column;
        memcpy(node.child, child, sizeof child);
        if (f->narrow)
            ((Node32 *)f->tree_nodes)[i] = (Node32){
                {(float)node.test.threshold}, column, {child[0], child[1], child[2]}};
        else
            ((Node64 *)f->tree_nodes)[i] = node;
    }
bad_child:
    if (i >= 0) {
        free(depth);
        return bad("node", i);
    }
    for (size_t tree = 0; tree < padded; tree++) {
        const int64_t offset = tree < (size_t)f->trees ? offset_of(f, roots[tree], -1) : f->leaf0;
        if (offset < 0) {
            free(depth);
            return bad("root", (Py_ssize_t)tree);
        }
        f->roots[tree] = (uint32_t)offset;
        if (tree < (size_t)f->trees && roots[tree] >= 0)
            f->depth[tree] = depth[roots[tree]];
    }
    free(depth);
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
    if (features < 0 || features >= MOST_FEATURES) {
        PyErr_SetString(PyExc_ValueError, "features is out of range");
        return NULL;
    }
    Forest *f = (Forest *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!f)
        return NULL;
    f->features = features;
    f->rounds = single;
    Py_ssize_t trees = -1, nodes = -1, triples, sets = -1, words = -1;
    int32_t *roots = NULL, *feature = NULL, *children = NULL, *set_of = NULL;
    double *threshold = NULL;
    int64_t *set_rows = NULL;
    int ok = 0;
    if (!(roots = copy_items(o_roots, "roots", 'i', &trees)))
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
    f->has_sets = sets > 0;
    f->narrow = f->rounds && !f->has_sets;
    ok = pack(f, roots, feature, threshold, children, set_of, sets) == 0;
done:
    free(roots);
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
    double stack[STACK_ROW];
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
    walk_row(f, x, codes_in(f, x), leaves, NULL, NULL);
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
    double stack[STACK_ROW], few[STACK_OUTPUTS];
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
    walk_row(s->forest, x, codes_in(s->forest, x), NULL, s, sums);
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
