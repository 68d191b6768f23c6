/* The row of a table that an integer key has: a mapped index of keys.h, as Python hands it over. */
#ifndef MARTLET_ROW_INDEX_H
#define MARTLET_ROW_INDEX_H
#include <Python.h>
#include "keys.h"
#include <string.h>

/* How a key becomes a row. */
typedef struct {
    Py_buffer slots_held, known_held;
    Slots slots;
    const int64_t *known; /* NULL: a slot for every key from *lowest* on */
    int64_t height, lowest;
    int shift;
} Index;

static int64_t row_of(const Index *index, int64_t key)
{
    if (!index->known) {
        const int64_t row = find_in_span(&index->slots, index->lowest, key);
        return row < index->height ? row : -1;
    }
    return find_hashed(&index->slots, index->shift, index->known, index->height, key);
}

static void release(Py_buffer *buffer)
{
    if (buffer->obj)
        PyBuffer_Release(buffer);
}

static void release_index(Index *index)
{
    release(&index->slots_held);
    release(&index->known_held);
}

/* Takes an array in one piece: of one of *kinds*, of *axes* (0: any), with a row at least. */
static int get_array(PyObject *object, Py_buffer *buffer, const char *kinds, int axes)
{
    if (PyObject_GetBuffer(object, buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
        return -1;
    if (!buffer->format || strlen(buffer->format) != 1 || !strchr(kinds, *buffer->format) ||
        (axes && buffer->ndim != axes) || buffer->ndim < 1 || buffer->shape[0] < 1) {
        PyErr_SetString(PyExc_ValueError, "an array has another dtype or shape");
        PyBuffer_Release(buffer);
        buffer->obj = NULL;
        return -1;
    }
    return 0;
}

/* Takes over (slots, keys by row or None, lowest), of a table of *height* rows. */
static int read_index(PyObject *given, Py_ssize_t height, Index *index)
{
    PyObject *slots, *known;
    long long lowest;
    if (!PyTuple_Check(given)) {
        PyErr_SetString(PyExc_TypeError, "a table needs its index");
        return -1;
    }
    if (!PyArg_ParseTuple(given, "OOL", &slots, &known, &lowest) ||
        get_array(slots, &index->slots_held, "ilq", 1) < 0)
        return -1;
    index->slots.data = index->slots_held.buf;
    index->slots.count = index->slots_held.shape[0];
    index->slots.wide = index->slots_held.itemsize == 8;
    index->lowest = lowest;
    index->height = height;
    if (known == Py_None)
        return 0;
    if (get_array(known, &index->known_held, "lq", 1) < 0)
        return -1;
    const int64_t count = index->slots.count;
    index->known = index->known_held.buf;
    if (count >= 2 && !(count & (count - 1)) && index->known_held.shape[0] <= height) {
        index->height = index->known_held.shape[0];
        index->shift = shift_of(count);
        return 0;
    }
    PyErr_SetString(PyExc_ValueError, "slots must be a power of two, and keys as many as rows");
    return -1;
}

#endif
