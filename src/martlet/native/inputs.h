/* The inputs that a signature declares, and the tensors that columns become for it. */
#ifndef MARTLET_INPUTS_H
#define MARTLET_INPUTS_H
#include "columns.h"

#define MOST_INPUTS 4096

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

/* ---- keys ---------------------------------------------------------------------------------- */

/* Reads a key and the colon after it; the input of that name, tried from *guess* on, or -1. */
static inline Py_ssize_t read_key(const Inputs *inputs, Text *t, Py_ssize_t guess)
{
    if (!take(t, '"'))
        return -1;
    const Py_ssize_t left = t->end - t->at;
    for (Py_ssize_t tried = 0, i = guess; tried < inputs->count; tried++, i++) {
        if (i >= inputs->count)
            i = 0;
        const Py_ssize_t size = inputs->name_size[i];
        if (size < left && t->at[size] == '"' && !memcmp(t->at, inputs->name[i], (size_t)size)) {
            t->at += size + 1;
            return take(t, ':') ? i : -1;
        }
    }
    return -1;
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
