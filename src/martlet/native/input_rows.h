/* The rows of a request's input, wherever numpy has put them. */
#ifndef MARTLET_INPUT_ROWS_H
#define MARTLET_INPUT_ROWS_H
#include <Python.h>
#include <stdint.h>
#include <string.h>

/* Rows that may lie apart, each in one piece. */
typedef struct {
    Py_buffer held;
    const char *data;
    Py_ssize_t count, stride, bytes;
    char kind;
} Rows;

/* Takes the rows of the input *name*: 1; 0 where it is absent or lies otherwise, without an error. */
static int get_rows(PyObject *inputs, PyObject *name, Rows *rows)
{
    PyObject *array = PyDict_GetItemWithError(inputs, name);
    if (!array || PyObject_GetBuffer(array, &rows->held, PyBUF_STRIDES | PyBUF_FORMAT) < 0) {
        PyErr_Clear();
        return 0;
    }
    const Py_buffer *held = &rows->held;
    const char *format = held->format ? held->format : "";
    rows->kind = strlen(format) == 1 ? *format : 0;
    if (rows->kind == 'q')
        rows->kind = 'l';
    rows->bytes = held->itemsize;
    int good = held->ndim >= 1 && rows->kind;
    for (int axis = held->ndim - 1; good && axis > 0; axis--) {
        good = held->shape[axis] == 1 || held->strides[axis] == rows->bytes;
        rows->bytes *= held->shape[axis];
    }
    if (!good) {
        PyBuffer_Release(&rows->held);
        return 0;
    }
    rows->data = held->buf;
    rows->count = held->shape[0];
    rows->stride = held->strides[0];
    return 1;
}

/* Whether each row is *width* values of *kind*. */
static int are(const Rows *rows, char kind, Py_ssize_t width)
{
    return rows->kind == kind && rows->bytes == width * rows->held.itemsize;
}

/* Whether each row is one integer. */
static int are_keys(const Rows *rows)
{
    return (rows->kind == 'l' || rows->kind == 'i') && rows->bytes == rows->held.itemsize;
}

static int64_t key_at(const Rows *rows, Py_ssize_t i)
{
    const char *at = rows->data + i * rows->stride;
    int64_t wide;
    int32_t narrow;
    if (rows->bytes == sizeof wide) {
        memcpy(&wide, at, sizeof wide);
        return wide;
    }
    memcpy(&narrow, at, sizeof narrow);
    return narrow;
}

static int are_one(const Rows *rows)
{
    if (rows->count < 1)
        return 0;
    for (Py_ssize_t i = 1; rows->stride && i < rows->count; i++)
        if (memcmp(rows->data, rows->data + i * rows->stride, (size_t)rows->bytes))
            return 0;
    return 1;
}

#endif
