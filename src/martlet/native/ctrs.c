/*
 * CatBoost's categories as numbers that its trees can test: the compiled twin of
 * martlet/formats/catboost_ctrs.py.
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

#define GIL_WORK 4000 /* keys looked up, above which the GIL is let go: about 40 us */
#define FEW_ROWS 4    /* up to here an item costs less than a column's buffer */

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

/* ---- hashes ------------------------------------------------------------------------------- */

#define K0 UINT64_C(0xC3A5C85C97CB3127)
#define K1 UINT64_C(0xB492B66FBE98F273)
#define K2 UINT64_C(0x9AE16A3B2F90404F)
#define K3 UINT64_C(0xC949D7C7509E6557)
#define MIX UINT64_C(0x9DDFEA08EB382D69)
#define COMBINE UINT64_C(0x4906BA494954CB65)

typedef struct {
    uint64_t first, second;
} Pair;

/* Bytes stand lowest first in a word, whatever the machine. */
static inline uint64_t bytes_at(const unsigned char *text, int count)
{
    uint64_t word = 0;
    for (int i = 0; i < count; i++)
        word |= (uint64_t)text[i] << (8 * i);
    return word;
}

static inline uint64_t word(const unsigned char *text)
{
    return bytes_at(text, 8);
}

static inline uint64_t turned(uint64_t v, int by)
{
    return v >> by | v << (64 - by);
}

static inline uint64_t shifted(uint64_t v)
{
    return v ^ v >> 47;
}

static inline uint64_t pair(uint64_t low, uint64_t high)
{
    const uint64_t mixed = shifted((low ^ high) * MIX);
    return shifted((high ^ mixed) * MIX) * MIX;
}

static uint64_t hash_short(const unsigned char *text, size_t size)
{
    if (size > 8) {
        const uint64_t last = word(text + size - 8);
        return pair(word(text), turned(last + size, (int)size)) ^ last;
    }
    if (size >= 4)
        return pair(size + (bytes_at(text, 4) << 3), bytes_at(text + size - 4, 4));
    if (size == 0)
        return K2;
    const uint64_t low = text[0] + ((uint64_t)text[size >> 1] << 8);
    const uint64_t high = size + ((uint64_t)text[size - 1] << 2);
    return shifted(low * K2 ^ high * K3) * K2;
}

static uint64_t hash_17_to_32(const unsigned char *text, size_t size)
{
    const uint64_t a = word(text) * K1, b = word(text + 8);
    const uint64_t c = word(text + size - 8) * K2, d = word(text + size - 16) * K0;
    return pair(turned(a - b, 43) + turned(c, 30) + d, a + turned(b ^ K3, 20) - c + size);
}

static Pair two_of_32(const unsigned char *text, uint64_t last, uint64_t a)
{
    const uint64_t b = turned(a + last, 52);
    uint64_t c = turned(a, 37);
    a += word(text + 8);
    c += turned(a, 7);
    a += word(text + 16);
    return (Pair){a + last, b + turned(a, 31) + c};
}

static uint64_t hash_33_to_64(const unsigned char *text, size_t size)
{
    const unsigned char *end = text + size;
    const Pair v = two_of_32(text, word(text + 24), word(text) + (size + word(end - 16)) * K0);
    const Pair w = two_of_32(end - 32, word(end - 8), word(text + 16) + word(end - 32));
    const uint64_t mixed = shifted((v.first + w.second) * K2 + (w.first + v.second) * K0);
    return shifted(mixed * K0 + v.second) * K2;
}

static Pair weak(const unsigned char *text, uint64_t a, uint64_t b)
{
    const uint64_t z = word(text + 24);
    a += word(text);
    b = turned(b + a + z, 21);
    const uint64_t c = a;
    a += word(text + 8) + word(text + 16);
    b += turned(a, 44);
    return (Pair){a + z, b + c};
}

static uint64_t hash_long(const unsigned char *text, size_t size)
{
    const unsigned char *end = text + size;
    uint64_t x = word(text), y = word(end - 16) ^ K1, z = word(end - 56) ^ K0;
    Pair v = weak(end - 64, size, y), w = weak(end - 32, size * K1, K0);
    z += shifted(v.second) * K1;
    x = turned(z + x, 39) * K1;
    y = turned(y, 33) * K1;
    for (size_t left = (size - 1) & ~(size_t)63; left; left -= 64, text += 64) {
        x = turned(x + y + v.first + word(text + 16), 37) * K1;
        y = turned(y + v.second + word(text + 48), 42) * K1;
        x ^= w.second;
        y ^= v.first;
        z = turned(z ^ w.first, 33);
        v = weak(text, v.second * K1, x + w.first);
        w = weak(text + 32, z + w.second, y);
        const uint64_t other = z;
        z = x;
        x = other;
    }
    return pair(pair(v.first, w.first) + shifted(y) * K1 + z, pair(v.second, w.second) + x);
}

/* The low 32 bits of CityHash64, version 1.0: CatBoost's number of a category. */
static int32_t category_hash(const char *text, Py_ssize_t length)
{
    const unsigned char *bytes = (const unsigned char *)text;
    const size_t size = (size_t)length;
    const uint64_t hash = size <= 16   ? hash_short(bytes, size)
                          : size <= 32 ? hash_17_to_32(bytes, size)
                          : size <= 64 ? hash_33_to_64(bytes, size)
                                       : hash_long(bytes, size);
    return (int32_t)(uint32_t)hash;
}

/* ---- cells -------------------------------------------------------------------------------- */

/* The hash of what a category's cell is as text: 1; 0 where it is none that this code knows. */
static int hash_cell(PyObject *cell, int32_t *hash)
{
    Py_ssize_t size;
    if (PyUnicode_Check(cell)) {
        const char *text = PyUnicode_AsUTF8AndSize(cell, &size);
        if (text)
            *hash = category_hash(text, size);
        else
            PyErr_Clear(); /* half a surrogate pair */
        return text != NULL;
    }
    if (PyBytes_Check(cell)) {
        char *text;
        if (PyBytes_AsStringAndSize(cell, &text, &size) < 0)
            return 0;
        *hash = category_hash(text, size);
        return 1;
    }
    if (!PyIndex_Check(cell))
        return 0;
    PyObject *whole = PyNumber_Index(cell);
    PyObject *told = whole ? PyObject_Str(whole) : NULL;
    const char *text = told ? PyUnicode_AsUTF8AndSize(told, &size) : NULL;
    if (text)
        *hash = category_hash(text, size);
    else
        PyErr_Clear();
    Py_XDECREF(whole);
    Py_XDECREF(told);
    return text != NULL;
}

/* One column of cells: a buffer of doubles or objects, else whatever has items. */
typedef struct {
    PyObject *column;
    Py_buffer view;
    int is_open;
    char kind; /* 'd', 'O', or 0: ask for items */
} Cells;

static int open_cells(PyObject *column, Py_ssize_t rows, Cells *cells)
{
    cells->column = column;
    cells->is_open = cells->kind = 0;
    if (rows <= FEW_ROWS)
        return 0;
    if (PyObject_GetBuffer(column, &cells->view, PyBUF_STRIDED_RO | PyBUF_FORMAT) < 0)
        return -1;
    cells->is_open = 1;
    const Py_buffer *view = &cells->view;
    const char *format = view->format ? view->format : "B";
    if (view->ndim != 1 || view->shape[0] != rows) {
        PyErr_SetString(PyExc_ValueError, "columns of one length are wanted");
        return -1;
    }
    if ((*format == 'd' || *format == 'O') && format[1] == 0)
        cells->kind = *format;
    return 0;
}

static inline const char *cell_at(const Cells *cells, Py_ssize_t row)
{
    return (const char *)cells->view.buf + row * cells->view.strides[0];
}

/* A new reference to a cell. */
static PyObject *item_at(const Cells *cells, Py_ssize_t row)
{
    if (cells->kind != 'O')
        return PySequence_GetItem(cells->column, row);
    PyObject *cell;
    memcpy(&cell, cell_at(cells, row), sizeof cell);
    cell = cell ? cell : Py_None;
    Py_INCREF(cell);
    return cell;
}

/* Numbers of one column into every *step*th place of *out*: 1; -1 with an error set. */
static int read_numbers(const Cells *cells, Py_ssize_t rows, float *out, Py_ssize_t step)
{
    for (Py_ssize_t row = 0; row < rows; row++, out += step) {
        double value;
        if (cells->kind == 'd') {
            memcpy(&value, cell_at(cells, row), sizeof value);
        } else {
            PyObject *cell = item_at(cells, row);
            if (!cell)
                return -1;
            value = PyFloat_AsDouble(cell);
            Py_DECREF(cell);
            if (value == -1.0 && PyErr_Occurred())
                return -1;
        }
        *out = (float)value;
    }
    return 1;
}

/* Hashes of one column into every *step*th place of *out*: 1; 0: a cell is none; -1: an error. */
static int read_hashes(const Cells *cells, Py_ssize_t rows, int32_t *out, Py_ssize_t step)
{
    for (Py_ssize_t row = 0; row < rows; row++, out += step) {
        PyObject *cell = item_at(cells, row);
        if (!cell)
            return -1;
        const int known = hash_cell(cell, out);
        Py_DECREF(cell);
        if (!known)
            return 0;
    }
    return 1;
}

/* ---- rows --------------------------------------------------------------------------------- */

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
    PyTypeObject *type = Py_TYPE(self);
    for (int32_t i = 0; c->combination && i < c->combinations; i++)
        free(c->combination[i].slots);
    free(c->category_of);
    free(c->above);
    free(c->equal);
    free(c->elements);
    free(c->combination);
    free(c->values);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static int bad(const char *what, Py_ssize_t at)
{
    PyErr_Format(PyExc_ValueError, "%s out of range at %zd", what, at);
    return -1;
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
            failed = bad("category", i);
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
            failed = bad("above", i);
    }
    for (Py_ssize_t i = 0; i < pairs / 2 && !failed; i++) {
        c->equal[i] = (Equal){equal[i * 2], equal[i * 2 + 1]};
        if (equal[i * 2] < 0 || equal[i * 2] >= c->categories)
            failed = bad("equal", i);
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
            bad("element", i);
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
            bad("shape", i);
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
    Ctrs *c = (Ctrs *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
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
    PyObject *m = PyModule_Create(&module);
    PyObject *type = m ? PyType_FromSpec(&ctrs_spec) : NULL;
    if (!type || PyModule_AddType(m, (PyTypeObject *)type) < 0) {
        Py_XDECREF(type);
        Py_XDECREF(m);
        return NULL;
    }
    Py_DECREF(type);
    return m;
}
