/* Looks keys up in an open-addressing hash table that lies in a mapped file.

   The pure twin is martlet/stores/keys.py: the same places, the same probes. A probe ends at an
   empty slot; it also ends after as many steps as there are slots, and a row beyond the table is
   taken for an empty slot, so a damaged file gives a wrong row at worst, never a wrong read. How
   one integer is found is in keys.h, which sides.c shares. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <string.h>

#include "crc32.h"
#include "keys.h"

/* The key at *i*; a request's may lie unaligned. */
static int64_t key_at(const Py_buffer *keys, int64_t i)
{
    int64_t key;
    memcpy(&key, (const char *)keys->buf + i * (int64_t)sizeof key, sizeof key);
    return key;
}

/* Slots that lie in *buffer*, which is released when they are done with. */
static int get_slots(PyObject *object, Py_buffer *buffer, Slots *slots)
{
    if (PyObject_GetBuffer(object, buffer, PyBUF_C_CONTIGUOUS) < 0)
        return -1;
    slots->data = buffer->buf;
    slots->wide = buffer->itemsize == 8;
    slots->count = buffer->len / (slots->wide ? 8 : 4);
    if (slots->count < 2 || (slots->count & (slots->count - 1)) ||
        (buffer->itemsize != 4 && buffer->itemsize != 8)) {
        PyBuffer_Release(buffer);
        PyErr_SetString(PyExc_ValueError, "slots must be a power of two of int32 or int64");
        return -1;
    }
    return 0;
}

static int get_array(PyObject *object, Py_buffer *buffer, Py_ssize_t itemsize, int flags)
{
    if (PyObject_GetBuffer(object, buffer, PyBUF_C_CONTIGUOUS | flags) < 0)
        return -1;
    if (buffer->itemsize != itemsize) {
        PyBuffer_Release(buffer);
        PyErr_Format(PyExc_ValueError, "an array of %zd-byte elements is wanted", itemsize);
        return -1;
    }
    return 0;
}

static PyObject *find_integers(PyObject *self, PyObject *args)
{
    PyObject *keys_in, *stored_in, *slots_in, *rows_in, *answer = NULL;
    Py_buffer keys, stored, places, rows;
    Slots slots;
    if (!PyArg_ParseTuple(args, "OOOO", &keys_in, &stored_in, &slots_in, &rows_in))
        return NULL;
    if (get_array(keys_in, &keys, 8, 0) < 0)
        return NULL;
    if (get_array(stored_in, &stored, 8, 0) < 0)
        goto release_keys;
    if (get_slots(slots_in, &places, &slots) < 0)
        goto release_stored;
    if (get_array(rows_in, &rows, 8, PyBUF_WRITABLE) < 0)
        goto release_slots;
    if (rows.len != keys.len) {
        PyErr_SetString(PyExc_ValueError, "keys and rows differ in length");
        goto release_rows;
    }
    const int64_t *known = stored.buf;
    const int64_t count = keys.len / 8, height = stored.len / 8;
    const int shift = shift_of(slots.count);
    int64_t *out = rows.buf;
    Py_BEGIN_ALLOW_THREADS
    for (int64_t i = 0; i < count; i++)
        out[i] = find_hashed(&slots, shift, known, height, key_at(&keys, i));
    Py_END_ALLOW_THREADS
    answer = Py_None;
    Py_INCREF(answer);
release_rows:
    PyBuffer_Release(&rows);
release_slots:
    PyBuffer_Release(&places);
release_stored:
    PyBuffer_Release(&stored);
release_keys:
    PyBuffer_Release(&keys);
    return answer;
}

static PyObject *find_dense(PyObject *self, PyObject *args)
{
    PyObject *keys_in, *slots_in, *rows_in, *answer = NULL;
    Py_buffer keys, places, rows;
    long long lowest;
    if (!PyArg_ParseTuple(args, "OOLO", &keys_in, &slots_in, &lowest, &rows_in))
        return NULL;
    if (get_array(keys_in, &keys, 8, 0) < 0)
        return NULL;
    if (PyObject_GetBuffer(slots_in, &places, PyBUF_C_CONTIGUOUS) < 0)
        goto release_keys;
    if (get_array(rows_in, &rows, 8, PyBUF_WRITABLE) < 0)
        goto release_slots;
    if (rows.len != keys.len || (places.itemsize != 4 && places.itemsize != 8)) {
        PyErr_SetString(PyExc_ValueError, "keys and rows differ, or slots are no integers");
        goto release_rows;
    }
    const Slots slots = {places.buf, places.len / places.itemsize, places.itemsize == 8};
    const int64_t count = keys.len / 8;
    int64_t *out = rows.buf;
    for (int64_t i = 0; i < count; i++)
        out[i] = find_in_span(&slots, lowest, key_at(&keys, i));
    answer = Py_None;
    Py_INCREF(answer);
release_rows:
    PyBuffer_Release(&rows);
release_slots:
    PyBuffer_Release(&places);
release_keys:
    PyBuffer_Release(&keys);
    return answer;
}

static PyObject *find_strings(PyObject *self, PyObject *args)
{
    PyObject *keys, *blob_in, *offsets_in, *hashes_in, *slots_in, *rows_in, *answer = NULL;
    Py_buffer blob, offsets, hashes, places, rows;
    Slots slots;
    if (!PyArg_ParseTuple(args, "OOOOOO", &keys, &blob_in, &offsets_in, &hashes_in, &slots_in,
                          &rows_in))
        return NULL;
    if (!PyList_Check(keys)) {
        PyErr_SetString(PyExc_TypeError, "keys must be a list");
        return NULL;
    }
    if (get_array(blob_in, &blob, 1, 0) < 0)
        return NULL;
    if (get_array(offsets_in, &offsets, 8, 0) < 0)
        goto release_blob;
    if (get_array(hashes_in, &hashes, 4, 0) < 0)
        goto release_offsets;
    if (get_slots(slots_in, &places, &slots) < 0)
        goto release_hashes;
    if (get_array(rows_in, &rows, 8, PyBUF_WRITABLE) < 0)
        goto release_slots;
    const int64_t *offset = offsets.buf;
    const uint32_t *hash = hashes.buf;
    const int64_t height = hashes.len / 4;
    const uint64_t mask = (uint64_t)slots.count - 1;
    const int shift = shift_of(slots.count);
    int64_t *out = rows.buf;
    Py_ssize_t count = PyList_Size(keys);
    if (rows.len != count * 8 || offsets.len != (height + 1) * 8) {
        PyErr_SetString(PyExc_ValueError, "keys, rows, offsets and hashes differ in length");
        goto release_rows;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        Py_ssize_t length;
        const char *key = PyUnicode_AsUTF8AndSize(PyList_GetItem(keys, i), &length);
        int64_t found = -1;
        if (key == NULL) {
            /* A lone surrogate has no UTF-8, so no key of the table equals it. */
            if (!PyErr_ExceptionMatches(PyExc_UnicodeEncodeError))
                goto release_rows;
            PyErr_Clear();
            out[i] = found;
            continue;
        }
        uint32_t wanted = crc32_on(0, (const unsigned char *)key, length);
        uint64_t place = first_place(wanted, shift);
        for (int64_t step = 0; step < slots.count; step++, place = (place + 1) & mask) {
            int64_t row = slot_at(&slots, place);
            if (row < 0 || row >= height)
                break;
            if (hash[row] != wanted)
                continue;
            int64_t begin = offset[row], end = offset[row + 1];
            if (begin < 0 || end < begin || end > blob.len)
                break;
            if (end - begin == length && memcmp((const char *)blob.buf + begin, key, length) == 0) {
                found = row;
                break;
            }
        }
        out[i] = found;
    }
    answer = Py_None;
    Py_INCREF(answer);
release_rows:
    PyBuffer_Release(&rows);
release_slots:
    PyBuffer_Release(&places);
release_hashes:
    PyBuffer_Release(&hashes);
release_offsets:
    PyBuffer_Release(&offsets);
release_blob:
    PyBuffer_Release(&blob);
    return answer;
}

static PyMethodDef methods[] = {
    {"find_integers", find_integers, METH_VARARGS, "find_integers(keys, stored, slots, rows)"},
    {"find_dense", find_dense, METH_VARARGS, "find_dense(keys, slots, lowest, rows)"},
    {"find_strings", find_strings, METH_VARARGS,
     "find_strings(keys, blob, offsets, hashes, slots, rows)"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {{0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_keyindex", "Key lookups; see martlet/stores/keys.py.", 0, methods,
    module_slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__keyindex(void)
{
    make_crc_table();
    return PyModuleDef_Init(&module);
}
