/* Arrays as Python gives them, checked before anything is read. */

#ifndef MARTLET_BUFFERS_H
#define MARTLET_BUFFERS_H

#include <Python.h>
#include <stdint.h>
#include <string.h>

static int get_floats(PyObject *object, Py_buffer *buffer, int flags, const char *what)
{
    if (PyObject_GetBuffer(object, buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | flags) < 0)
        return -1;
    if (!buffer->format || strcmp(buffer->format, "f")) {
        PyErr_Format(PyExc_ValueError, "%s must be float32", what);
        PyBuffer_Release(buffer);
        return -1;
    }
    return 0;
}

static int get_rows(PyObject *object, Py_buffer *buffer, Py_ssize_t below, Py_ssize_t *count,
                    const char *what)
{
    if (PyObject_GetBuffer(object, buffer, PyBUF_C_CONTIGUOUS) < 0)
        return -1;
    if (buffer->itemsize != 8) {
        PyErr_Format(PyExc_ValueError, "%s must be int64", what);
        PyBuffer_Release(buffer);
        return -1;
    }
    *count = buffer->len / 8;
    const int64_t *rows = buffer->buf;
    for (Py_ssize_t i = 0; i < *count; i++)
        if (rows[i] < -1 || rows[i] >= below) {
            PyErr_Format(PyExc_IndexError, "%s[%zd] is %lld; there are %zd rows", what, i,
                         (long long)rows[i], below);
            PyBuffer_Release(buffer);
            return -1;
        }
    return 0;
}

static const float *row_of(const Py_buffer *table, Py_ssize_t count, Py_ssize_t width, int64_t row)
{
    return (const float *)table->buf + (row < 0 ? count - 1 : row) * width;
}

#endif
