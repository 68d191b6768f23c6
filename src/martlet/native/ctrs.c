/*
 * CatBoost's categories as numbers that its trees can test: the compiled twin of
 * martlet/formats/catboost/ctrs.py.
 *
 * A row of features becomes a row of float32: the numbers in their places, 0 in those of categories;
 * then 1 or 0 for each test of one category; then what training counted of each combination of
 * categories (a "ctr"). A combination's key is a hash of its categories and tests. Its table is built
 * here, by open addressing, of keys and rows of values that come with their counts: no number of
 * the model's file is a place in memory.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "arrays.h"
#include "cells.h"
#include "objects.h"

#define GIL_WORK 4000 /* keys looked up, above which the GIL is let go: about 40 us */

typedef struct {
    uint64_t key;
    uint32_t row; /* 0: there is no key here; and, of the values, what such a key has */
} Slot;

typedef struct {
    int32_t feature;
    int32_t nan_is_above;
    float border;
} Above; /* whether a number lies above a border */

typedef struct {
    int32_t category, hash;
} Equal; /* whether a category is this one */

typedef struct {
    int32_t start, end; /* of its elements */
    int32_t first, width; /* the columns that it fills */
    uint64_t mask;
    Slot *slots;         /* [mask + 1] */
    const float *values; /* [1 + keys, width] */
} Combination;

typedef struct {
    PyObject_HEAD
    int32_t features, categories, aboves, equals, combinations, columns;
    int32_t *category_of; /* per feature; -1: it is a number */
    Above *above;
    Equal *equal;
    int32_t *elements; /* a category, or ~a test: those of numbers, then those of categories */
    Combination *combination;
    float *values;
} Ctrs;

/* ---- rows --------------------------------------------------------------------------------- */

#define COMBINE UINT64_C(0x4906BA494954CB65)

/* A combination's key so far, and one element more. */
static inline uint64_t combined(uint64_t hash, uint64_t with)
{
    return COMBINE * (hash + COMBINE * with);
}

static inline int holds(const Ctrs *c, int32_t test, const float *row, const int32_t *hashes)
{
    if (test >= c->aboves) {
        const Equal *equal = &c->equal[test - c->aboves];
        return hashes[equal->category] == equal->hash;
    }
    const Above *above = &c->above[test];
    const float value = row[above->feature];
    return value > above->border || (above->nan_is_above && value != value);
}

static inline const float *find(const Combination *of, uint64_t key)
{
    uint64_t at = key & of->mask;
    while (of->slots[at].row && of->slots[at].key != key)
        at = (at + 1) & of->mask;
    return of->values + (size_t)of->slots[at].row * (size_t)of->width;
}

/* Combination by combination, so that its table stays in the cache. */
static void fill(const Ctrs *c, Py_ssize_t rows, const int32_t *hashes, float *out)
{
    for (Py_ssize_t row = 0; row < rows; row++)
        for (int32_t i = 0; i < c->equals; i++)
            out[row * c->columns + c->features + i] =
                (float)holds(c, c->aboves + i, NULL, hashes + row * c->categories);
    for (int32_t k = 0; k < c->combinations; k++) {
        const Combination *of = &c->combination[k];
        for (Py_ssize_t row = 0; row < rows; row++) {
            const int32_t *of_row = hashes + row * c->categories;
            float *to = out + row * c->columns;
            uint64_t key = 0;
            for (int32_t i = of->start; i < of->end; i++) {
                const int32_t element = c->elements[i];
                key = combined(key, element < 0 ? (uint64_t)holds(c, ~element, to, of_row)
                                                : (uint64_t)(int64_t)of_row[element]);
            }
            memcpy(to + of->first, find(of, key), (size_t)of->width * sizeof(float));
        }
    }
}

/* All columns into *out* and *hashes*: 1; 0: a cell is no category; -1: an error. */
static int read_columns(const Ctrs *c, PyObject *columns, Py_ssize_t rows, int32_t *hashes,
                        float *out)
{
    int done = 1;
    for (int32_t i = 0; i < c->features && done == 1; i++) {
        Cells cells;
        PyObject *column = PyList_GetItem(columns, i);
        if (!column)
            return -1;
        Py_INCREF(column);
        const int32_t category = c->category_of[i];
        if (open_cells(column, rows, &cells) < 0) {
            done = -1;
        } else if (category < 0) {
            done = read_numbers(&cells, rows, out + i, c->columns);
        } else {
            for (Py_ssize_t row = 0; row < rows; row++)
                out[row * c->columns + i] = 0;
            done = read_hashes(&cells, rows, hashes + category, c->categories);
        }
        if (cells.is_open)
            PyBuffer_Release(&cells.view);
        Py_DECREF(column);
    }
    return done;
}

static PyObject *ctrs_fill(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    const Ctrs *c = (const Ctrs *)self;
    if (nargs != 2 || !PyList_Check(args[0]) || PyList_Size(args[0]) != c->features) {
        PyErr_SetString(PyExc_TypeError, "(columns, out): a list of all columns is wanted");
        return NULL;
    }
    Py_buffer out;
    if (get_buffer(args[1], &out, "out", 'f', PyBUF_WRITABLE) < 0)
        return NULL;
    const Py_ssize_t rows = out.ndim == 2 ? out.shape[0] : -1;
    int32_t *hashes = NULL;
    int done = -1;
    if (rows < 0 || out.shape[1] != c->columns)
        PyErr_Format(PyExc_ValueError, "out of %d columns is wanted", (int)c->columns);
    else if (!(hashes = malloc((size_t)rows * (size_t)c->categories * sizeof(int32_t) + 1)))
        PyErr_NoMemory();
    else
        done = read_columns(c, args[0], rows, hashes, out.buf);
    if (done == 1 && (double)rows * c->combinations < GIL_WORK) {
        fill(c, rows, hashes, out.buf);
    } else if (done == 1) {
        Py_BEGIN_ALLOW_THREADS
        fill(c, rows, hashes, out.buf);
        Py_END_ALLOW_THREADS
    }
    free(hashes);
    PyBuffer_Release(&out);
    return done < 0 ? NULL : PyBool_FromLong(done);
}

/* ---- what it is made of ------------------------------------------------------------------- */

static void ctrs_dealloc(PyObject *self)
{
    Ctrs *c = (Ctrs *)self;
    for (int32_t i = 0; c->combination && i < c->combinations; i++)
        free(c->combination[i].slots);
    free(c->category_of);
    free(c->above);
    free(c->equal);
    free(c->elements);
    free(c->combination);
    free(c->values);
    free_object(self);
}

static int set_categories(Ctrs *c, PyObject *o_features)
{
    Py_ssize_t count = -1;
    int32_t *features = copy_items(o_features, "categories", 'i', &count);
    c->category_of = malloc((size_t)c->features * sizeof(int32_t) + 1);
    int failed = !features || !c->category_of;
    for (int32_t i = 0; i < c->features && !failed; i++)
        c->category_of[i] = -1;
    for (Py_ssize_t i = 0; i < count && !failed; i++) {
        if (features[i] < 0 || features[i] >= c->features || c->category_of[features[i]] >= 0)
            failed = out_of_range("category", i);
        else
            c->category_of[features[i]] = (int32_t)i;
    }
    free(features);
    c->categories = (int32_t)count;
    return failed ? -1 : 0;
}

static int set_tests(Ctrs *c, PyObject *o_above, PyObject *o_borders, PyObject *o_equal)
{
    Py_ssize_t numbers = -1, borders = -1, pairs = -1;
    int32_t *above = copy_items(o_above, "above", 'i', &numbers);
    float *border = above ? copy_items(o_borders, "borders", 'f', &borders) : NULL;
    int32_t *equal = border ? copy_items(o_equal, "equal", 'i', &pairs) : NULL;
    int failed = !equal;
    if (!failed && (numbers != borders * 2 || pairs % 2 || borders > INT32_MAX / 4 ||
                    pairs > INT32_MAX / 4)) {
        PyErr_SetString(PyExc_ValueError, "two columns of tests are wanted");
        failed = 1;
    }
    if (!failed) {
        c->above = malloc((size_t)borders * sizeof(Above) + 1);
        c->equal = malloc((size_t)pairs / 2 * sizeof(Equal) + 1);
        failed = !c->above || !c->equal;
    }
    for (Py_ssize_t i = 0; i < borders && !failed; i++) {
        const int32_t feature = above[i * 2];
        c->above[i] = (Above){feature, above[i * 2 + 1], border[i]};
        if (feature < 0 || feature >= c->features || c->category_of[feature] >= 0)
            failed = out_of_range("above", i);
    }
    for (Py_ssize_t i = 0; i < pairs / 2 && !failed; i++) {
        c->equal[i] = (Equal){equal[i * 2], equal[i * 2 + 1]};
        if (equal[i * 2] < 0 || equal[i * 2] >= c->categories)
            failed = out_of_range("equal", i);
    }
    free(above);
    free(border);
    free(equal);
    c->aboves = (int32_t)borders;
    c->equals = (int32_t)(pairs / 2);
    return failed ? -1 : 0;
}

/* Takes in *keys*; a key that comes again stays what it was first. */
static int set_table(Combination *of, const uint64_t *keys, int64_t count)
{
    uint64_t room = 2;
    while (room < (uint64_t)count * 2)
        room *= 2;
    of->mask = room - 1;
    if (!(of->slots = calloc(room, sizeof(Slot))))
        return -1;
    for (int64_t i = 0; i < count; i++) {
        uint64_t at = keys[i] & of->mask;
        while (of->slots[at].row && of->slots[at].key != keys[i])
            at = (at + 1) & of->mask;
        if (!of->slots[at].row)
            of->slots[at] = (Slot){keys[i], (uint32_t)(i + 1)};
    }
    return 0;
}

/* *shapes* is a row of each combination: how many elements, columns and keys it has. */
static int set_combinations(Ctrs *c, PyObject *o_elements, PyObject *o_shapes, PyObject *o_keys,
                            PyObject *o_values)
{
    Py_ssize_t elements = -1, shapes = -1, keys = -1, values = -1, element = 0, key = 0, value = 0;
    int64_t *shape = NULL;
    uint64_t *key_list = NULL;
    int failed = 1;
    if (!(c->elements = copy_items(o_elements, "elements", 'i', &elements)) ||
        !(shape = copy_items(o_shapes, "shapes", 'q', &shapes)) ||
        !(key_list = copy_items(o_keys, "keys", 'Q', &keys)) ||
        !(c->values = copy_items(o_values, "values", 'f', &values)))
        goto done;
    for (Py_ssize_t i = 0; i < elements; i++)
        if (c->elements[i] >= c->categories || ~c->elements[i] >= c->aboves + c->equals) {
            out_of_range("element", i);
            goto done;
        }
    const Py_ssize_t count = shapes / 3;
    if (elements > INT32_MAX / 4 || count > INT32_MAX / 4 || shapes % 3 ||
        !(c->combination = calloc((size_t)count + 1, sizeof(Combination)))) {
        PyErr_SetString(PyExc_ValueError, "too many combinations");
        goto done;
    }
    c->combinations = (int32_t)count;
    c->columns = c->features + c->equals;
    for (Py_ssize_t i = 0; i < count; i++) {
        const int64_t *one = shape + i * 3;
        if (one[0] < 0 || one[0] > elements - element || one[1] < 0 ||
            one[1] > INT32_MAX / 4 - c->columns || one[2] < 0 || one[2] > keys - key ||
            one[2] >= UINT32_MAX || (one[1] && one[2] + 1 > (values - value) / one[1])) {
            out_of_range("shape", i);
            goto done;
        }
        Combination *of = &c->combination[i];
        of->start = (int32_t)element;
        of->end = (int32_t)(element += (Py_ssize_t)one[0]);
        of->first = c->columns;
        of->width = (int32_t)one[1];
        of->values = c->values + value;
        if (set_table(of, key_list + key, one[2]) < 0) {
            PyErr_NoMemory();
            goto done;
        }
        c->columns += of->width;
        key += (Py_ssize_t)one[2];
        value += (Py_ssize_t)((one[2] + 1) * one[1]);
    }
    failed = element != elements || key != keys || value != values;
    if (failed)
        PyErr_SetString(PyExc_ValueError, "shapes do not add up to what there is");
done:
    free(shape);
    free(key_list);
    return failed ? -1 : 0;
}

static PyObject *ctrs_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    int features;
    PyObject *categories, *above, *borders, *equal, *elements, *shapes, *keys, *values;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "iOOOOOOOO", &features, &categories, &above, &borders, &equal,
                          &elements, &shapes, &keys, &values))
        return NULL;
    if (features < 0 || features > INT32_MAX / 8) {
        PyErr_SetString(PyExc_ValueError, "features is out of range");
        return NULL;
    }
    Ctrs *c = new_object(type);
    if (!c)
        return NULL;
    c->features = features;
    if (set_categories(c, categories) < 0 || set_tests(c, above, borders, equal) < 0 ||
        set_combinations(c, elements, shapes, keys, values) < 0) {
        if (!PyErr_Occurred())
            PyErr_NoMemory();
        Py_DECREF(c);
        return NULL;
    }
    return (PyObject *)c;
}

static PyMethodDef ctrs_methods[] = {
    {"fill", (PyCFunction)(void (*)(void))ctrs_fill, METH_FASTCALL,
     "fill(columns, out): fill out, float32 [rows, columns]; False where a cell is no category"},
    {NULL, NULL, 0, NULL}};

static PyType_Slot ctrs_slots[] = {{Py_tp_new, ctrs_new},
                                   {Py_tp_dealloc, ctrs_dealloc},
                                   {Py_tp_methods, ctrs_methods},
                                   {0, NULL}};

static PyType_Spec ctrs_spec = {"martlet.native._ctrs.Ctrs", sizeof(Ctrs), 0, Py_TPFLAGS_DEFAULT,
                                ctrs_slots};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_ctrs", "CatBoost's categories as numbers.", -1, NULL, NULL, NULL, NULL,
    NULL};

PyMODINIT_FUNC PyInit__ctrs(void)
{
    return module_with(&module, &ctrs_spec);
}
