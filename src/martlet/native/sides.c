/* The two sides of a common ranking in one pass: the share of its user, and the rows of its items.

   Sides(weights, bias, feeds, items).find(inputs, users, rows) fills *users* [1, width] and *rows*
   [items], and is True; or it is False, and martlet/formats/package, the pure twin, must find them:
   several users came, an id is unknown, an item's other inputs are not those that its share was
   computed from, or an array does not lie as expected. It knows no error of a request, then.

   A user's share is `bias + x weights`, where x is what the user's graph is fed, side by side:
   inputs as they come, and rows of tables. share(x, out) is that for any number of users; one user
   found here is added up in the same order, and gets the same bits. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include "input_rows.h"
#include "objects.h"
#include "row_index.h"

/* What fills a stretch of x: an input, or the row of *table* that an input names. */
typedef struct {
    PyObject *name;
    int is_gathered;
    Index index;
    Py_buffer table;
    Py_ssize_t width;
} Feed;

/* An item's input beside its key, as the catalogue has it; *stored.buf* NULL: not looked at. */
typedef struct {
    PyObject *name;
    Py_buffer stored;
} Column;

typedef struct {
    PyObject_HEAD
    PyObject *kept; /* the arguments: they keep the names alive */
    Py_buffer weights, bias;
    Py_ssize_t depth, width; /* of x, and of a share; 0: another computes the users' */
    Feed *feeds;
    Py_ssize_t feed_count;
    PyObject *key;
    Index index;
    Column *columns;
    Py_ssize_t column_count;
} Sides;

/* ---- the user's side ---------------------------------------------------------------------- */

/* out = bias */
static void begin_share(const Sides *sides, float *out)
{
    memcpy(out, sides->bias.buf, (size_t)sides->width * sizeof *out);
}

/* out += x weights, for the stretch of x that begins at *at*. */
static void add_share(const Sides *sides, Py_ssize_t at, const float *x, Py_ssize_t count,
                      float *restrict out)
{
    const float *restrict weights = (const float *)sides->weights.buf + at * sides->width;
    for (Py_ssize_t i = 0; i < count; i++, weights += sides->width)
        for (Py_ssize_t k = 0; k < sides->width; k++)
            out[k] += x[i] * weights[k];
}

static int find_user(const Sides *sides, PyObject *inputs, float *out)
{
    Py_ssize_t at = 0, count = -1;
    begin_share(sides, out);
    for (Py_ssize_t f = 0; f < sides->feed_count; f++) {
        const Feed *feed = &sides->feeds[f];
        Rows rows;
        if (!get_rows(inputs, feed->name, &rows))
            return 0;
        int good = are_one(&rows) && (count < 0 || count == rows.count);
        const char *x = rows.data;
        if (good && feed->is_gathered) {
            const int64_t row = are_keys(&rows) ? row_of(&feed->index, key_at(&rows, 0)) : -1;
            x = (const char *)feed->table.buf + row * feed->width * (Py_ssize_t)sizeof(float);
            good = row >= 0;
        } else if (good) {
            good = are(&rows, 'f', feed->width) && (uintptr_t)x % sizeof(float) == 0;
        }
        if (good)
            add_share(sides, at, (const float *)x, feed->width, out);
        at += feed->width;
        count = rows.count;
        PyBuffer_Release(&rows.held);
        if (!good)
            return 0;
    }
    return 1;
}

/* ---- the items' side ---------------------------------------------------------------------- */

/* Whether the items' values of one input are those of *rows* in the catalogue. */
static int is_known(const Column *column, const Rows *values, const int64_t *rows)
{
    const Py_buffer *stored = &column->stored;
    const Py_ssize_t bytes = stored->len / stored->shape[0];
    const char kind = stored->format[0] == 'q' ? 'l' : stored->format[0];
    if (values->kind != kind || values->held.itemsize != stored->itemsize || values->bytes != bytes)
        return 0;
    for (Py_ssize_t i = 0; i < values->count; i++) {
        const char *a = values->data + i * values->stride;
        const char *b = (const char *)stored->buf + rows[i] * bytes;
        if (kind != 'f') {
            if (memcmp(a, b, (size_t)bytes))
                return 0;
            continue;
        }
        for (Py_ssize_t k = 0; k < bytes; k += (Py_ssize_t)sizeof(float)) {
            float x, y; /* the input's may be unaligned */
            memcpy(&x, a + k, sizeof x);
            memcpy(&y, b + k, sizeof y);
            if (!(x == y)) /* a NaN is computed anew */
                return 0;
        }
    }
    return 1;
}

static int find_items(const Sides *sides, PyObject *inputs, int64_t *rows, Py_ssize_t count)
{
    Rows values;
    if (!get_rows(inputs, sides->key, &values))
        return 0;
    int good = are_keys(&values) && values.count == count;
    for (Py_ssize_t i = 0; good && i < count; i++)
        good = (rows[i] = row_of(&sides->index, key_at(&values, i))) >= 0;
    PyBuffer_Release(&values.held);
    for (Py_ssize_t c = 0; good && c < sides->column_count; c++) {
        const Column *column = &sides->columns[c];
        if (!PyDict_GetItemWithError(inputs, column->name)) {
            good = !PyErr_Occurred(); /* left out: the catalogue speaks for it */
            continue;
        }
        if (!column->stored.buf || !get_rows(inputs, column->name, &values))
            return 0;
        good = values.count == count && is_known(column, &values, rows);
        PyBuffer_Release(&values.held);
    }
    return good;
}

static PyObject *sides_find(PyObject *self, PyObject *args)
{
    const Sides *sides = (const Sides *)self;
    PyObject *inputs, *users_in, *rows_in;
    Py_buffer users, rows;
    if (!PyArg_ParseTuple(args, "OOO", &inputs, &users_in, &rows_in))
        return NULL;
    if (!PyDict_Check(inputs))
        Py_RETURN_FALSE;
    if (PyObject_GetBuffer(rows_in, &rows, PyBUF_CONTIG) < 0)
        return NULL;
    int found = rows.itemsize == sizeof(int64_t) &&
                find_items(sides, inputs, rows.buf, rows.len / (Py_ssize_t)sizeof(int64_t));
    PyBuffer_Release(&rows);
    if (found && sides->width) {
        if (PyObject_GetBuffer(users_in, &users, PyBUF_CONTIG) < 0)
            return NULL;
        found = users.len == sides->width * (Py_ssize_t)sizeof(float) &&
                find_user(sides, inputs, users.buf);
        PyBuffer_Release(&users);
    }
    if (PyErr_Occurred())
        return NULL;
    return Py_NewRef(found ? Py_True : Py_False);
}

static PyObject *sides_share(PyObject *self, PyObject *args)
{
    const Sides *sides = (const Sides *)self;
    PyObject *x_in, *out_in;
    Py_buffer x, out;
    if (!PyArg_ParseTuple(args, "OO", &x_in, &out_in) ||
        PyObject_GetBuffer(x_in, &x, PyBUF_CONTIG_RO) < 0)
        return NULL;
    if (PyObject_GetBuffer(out_in, &out, PyBUF_CONTIG) < 0) {
        PyBuffer_Release(&x);
        return NULL;
    }
    const Py_ssize_t size = (Py_ssize_t)sizeof(float);
    const Py_ssize_t count = sides->depth ? x.len / (sides->depth * size) : 0;
    const int fits = sides->width && x.len == count * sides->depth * size &&
                     out.len == count * sides->width * size;
    for (Py_ssize_t i = 0; fits && i < count; i++) {
        begin_share(sides, (float *)out.buf + i * sides->width);
        add_share(sides, 0, (const float *)x.buf + i * sides->depth, sides->depth,
                  (float *)out.buf + i * sides->width);
    }
    PyBuffer_Release(&x);
    PyBuffer_Release(&out);
    if (!fits)
        PyErr_SetString(PyExc_ValueError, "x and out are rows of other sizes");
    return fits ? Py_NewRef(Py_None) : NULL;
}

/* ---- Sides -------------------------------------------------------------------------------- */

/* Takes over (name, index or None, table or None, width). */
static int read_feed(PyObject *given, Feed *feed)
{
    PyObject *index, *table;
    if (!PyTuple_Check(given)) {
        PyErr_SetString(PyExc_TypeError, "a feed is a tuple");
        return -1;
    }
    if (!PyArg_ParseTuple(given, "UOOn", &feed->name, &index, &table, &feed->width))
        return -1;
    feed->is_gathered = table != Py_None;
    if (!feed->is_gathered)
        return 0;
    if (get_array(table, &feed->table, "f", 2) < 0)
        return -1;
    if (feed->table.shape[1] == feed->width)
        return read_index(index, feed->table.shape[0], &feed->index);
    PyErr_SetString(PyExc_ValueError, "a table has another width");
    return -1;
}

static int read_user(Sides *sides, PyObject *weights, PyObject *bias, PyObject *feeds)
{
    const Py_ssize_t count = PyTuple_Size(feeds);
    if (count < 0 || get_array(weights, &sides->weights, "f", 2) < 0 ||
        get_array(bias, &sides->bias, "f", 1) < 0 ||
        !(sides->feeds = PyMem_Calloc((size_t)count + 1, sizeof *sides->feeds)))
        return -1;
    sides->feed_count = count;
    sides->depth = sides->weights.shape[0];
    Py_ssize_t depth = 0;
    for (Py_ssize_t f = 0; f < count; f++) {
        if (read_feed(PyTuple_GetItem(feeds, f), &sides->feeds[f]) < 0)
            return -1;
        depth += sides->feeds[f].width;
    }
    sides->width = sides->weights.shape[1];
    if (depth == sides->depth && sides->bias.shape[0] == sides->width)
        return 0;
    PyErr_SetString(PyExc_ValueError, "feeds, weights and bias do not fit together");
    return -1;
}

/* Takes over (name of the key, index, rows of the catalogue, ((name, array or None), ...)). */
static int read_items(Sides *sides, PyObject *given)
{
    PyObject *index, *columns;
    Py_ssize_t height;
    if (!PyArg_ParseTuple(given, "UOnO!", &sides->key, &index, &height, &PyTuple_Type, &columns) ||
        read_index(index, height, &sides->index) < 0)
        return -1;
    const Py_ssize_t count = PyTuple_Size(columns);
    if (!(sides->columns = PyMem_Calloc((size_t)count + 1, sizeof *sides->columns)))
        return -1;
    sides->column_count = count;
    for (Py_ssize_t c = 0; c < count; c++) {
        PyObject *stored;
        Column *column = &sides->columns[c];
        PyObject *about = PyTuple_GetItem(columns, c);
        if (!PyTuple_Check(about) || !PyArg_ParseTuple(about, "UO", &column->name, &stored)) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_TypeError, "a column is a tuple");
            return -1;
        }
        if (stored == Py_None)
            continue;
        if (get_array(stored, &column->stored, "?ilqf", 0) < 0)
            return -1;
        if (column->stored.shape[0] < height) {
            PyErr_SetString(PyExc_ValueError, "a column is shorter than the catalogue");
            return -1;
        }
    }
    return 0;
}

static void sides_dealloc(PyObject *self)
{
    Sides *sides = (Sides *)self;
    release(&sides->weights);
    release(&sides->bias);
    release_index(&sides->index);
    for (Py_ssize_t f = 0; f < sides->feed_count; f++) {
        release(&sides->feeds[f].table);
        release_index(&sides->feeds[f].index);
    }
    for (Py_ssize_t c = 0; c < sides->column_count; c++)
        release(&sides->columns[c].stored);
    PyMem_Free(sides->feeds);
    PyMem_Free(sides->columns);
    Py_XDECREF(sides->kept);
    free_object(self);
}

static PyObject *sides_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *weights, *bias, *feeds, *items;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OOO!O!", &weights, &bias, &PyTuple_Type, &feeds, &PyTuple_Type,
                          &items))
        return NULL;
    Sides *sides = new_object(type);
    if (!sides)
        return NULL;
    sides->kept = Py_NewRef(args);
    if ((weights == Py_None || read_user(sides, weights, bias, feeds) == 0) &&
        read_items(sides, items) == 0)
        return (PyObject *)sides;
    if (!PyErr_Occurred())
        PyErr_NoMemory();
    Py_DECREF(sides);
    return NULL;
}

static PyMethodDef sides_methods[] = {
    {"find", sides_find, METH_VARARGS, "find(inputs, users, rows): fills both; False: it did not"},
    {"share", sides_share, METH_VARARGS, "share(x, out): out = bias + x weights, row by row"},
    {NULL, NULL, 0, NULL}};

static PyType_Slot sides_slots[] = {{Py_tp_new, sides_new},
                                    {Py_tp_dealloc, sides_dealloc},
                                    {Py_tp_methods, sides_methods},
                                    {0, NULL}};
static PyType_Spec sides_spec = {"martlet.native._sides.Sides", sizeof(Sides), 0, Py_TPFLAGS_DEFAULT,
                                 sides_slots};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_sides",
                                    "A ranking's user's share and items' rows.", -1, NULL, NULL,
                                    NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__sides(void)
{
    return module_with(&module, &sides_spec);
}
