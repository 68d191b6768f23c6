/* Rows of a table that change while it is read: the two-slot protocol of martlet/stores/slots.py.

   A record holds a sequence word and two payloads. The writer (there is one) fills the payload
   that the word does not select, then stores the word one higher: its lowest bit selects the
   payload. A reader takes the word, copies, and takes the word again; if it moved, the payload may
   have been the writer's next, and the reader begins again. A writer that is killed leaves a torn
   payload that no word selects.

   The file comes from disk: every offset is checked against the mapping before it is used. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "crc32.h"

#define RECORD_HEAD 24
#define PAYLOAD_HEAD 12
#define PRESENT 1u

typedef struct {
    Py_buffer buffer;
    long long rows;     /* of the base table */
    long long pointers; /* offset of uint32[rows] */
    long long records;  /* offset of the records */
    long long count;    /* of records that the file has room for, number 0 included */
    long long stride;
    long long payload;
} Live;

static int check_live(const Live *live, int64_t row_bytes)
{
    const int64_t size = live->buffer.len;
    if (live->rows < 0 || live->pointers < 0 || live->records < 0 || live->count < 1 ||
        live->pointers % 4 || live->records % 8 || live->stride % 8 || live->payload % 4 ||
        live->stride <= 0 || live->pointers > size || live->records > size ||
        live->rows > (size - live->pointers) / 4 ||
        live->count > (size - live->records) / live->stride ||
        live->payload < PAYLOAD_HEAD + row_bytes ||
        live->payload > (live->stride - RECORD_HEAD) / 2) {
        PyErr_SetString(PyExc_ValueError, "the layout does not fit the live file");
        return -1;
    }
    return 0;
}

static int get_live(PyObject *object, PyObject *layout, Live *live, int64_t row_bytes, int flags)
{
    if (!PyArg_ParseTuple(layout, "LLLLLL", &live->rows, &live->pointers, &live->records,
                          &live->count, &live->stride, &live->payload))
        return -1;
    if (PyObject_GetBuffer(object, &live->buffer, PyBUF_C_CONTIGUOUS | flags) < 0)
        return -1;
    if (check_live(live, row_bytes) < 0) {
        PyBuffer_Release(&live->buffer);
        return -1;
    }
    return 0;
}

/* The record's newest payload into out, and its scale; 0 if it has none: the base row holds. */
static int read_record(const Live *live, int64_t number, int64_t row_bytes, char *out, float *scale)
{
    char *record = (char *)live->buffer.buf + live->records + number * live->stride;
    uint32_t *word = (uint32_t *)record;
    for (;;) {
        const uint32_t before = __atomic_load_n(word, __ATOMIC_ACQUIRE);
        if (before == 0)
            return 0;
        const char *payload = record + RECORD_HEAD + (before & 1) * live->payload;
        uint32_t flag;
        memcpy(&flag, payload, 4);
        memcpy(scale, payload + 4, 4);
        memcpy(out, payload + PAYLOAD_HEAD, (size_t)row_bytes);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (__atomic_load_n(word, __ATOMIC_RELAXED) == before)
            return flag == PRESENT;
    }
}

static PyObject *gather(PyObject *self, PyObject *args)
{
    PyObject *base_in, *scales_in, *live_in, *layout, *rows_in, *out_in, *out_scales_in;
    PyObject *answer = NULL;
    Py_buffer base, rows, out, scales = {0}, out_scales = {0};
    Live live;
    if (!PyArg_ParseTuple(args, "OOOO!OOO", &base_in, &scales_in, &live_in, &PyTuple_Type, &layout,
                          &rows_in, &out_in, &out_scales_in))
        return NULL;
    if (PyObject_GetBuffer(rows_in, &rows, PyBUF_C_CONTIGUOUS) < 0)
        return NULL;
    if (PyObject_GetBuffer(out_in, &out, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) < 0)
        goto release_rows;
    const int64_t asked = rows.len / 8;
    const int64_t row_bytes = asked ? out.len / asked : 0;
    if (rows.itemsize != 8 || row_bytes * asked != out.len) {
        PyErr_SetString(PyExc_ValueError, "rows are int64 [n] and out has n rows");
        goto release_out;
    }
    if (PyObject_GetBuffer(base_in, &base, PyBUF_C_CONTIGUOUS) < 0)
        goto release_out;
    if (get_live(live_in, layout, &live, row_bytes, 0) < 0)
        goto release_base;
    const int scaled = scales_in != Py_None;
    if (scaled) {
        if (PyObject_GetBuffer(scales_in, &scales, PyBUF_C_CONTIGUOUS) < 0)
            goto release_live;
        if (PyObject_GetBuffer(out_scales_in, &out_scales, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) < 0)
            goto release_scales;
    }
    if ((asked && base.len != (live.rows + 1) * row_bytes) ||
        (scaled && (scales.len != (live.rows + 1) * 4 || out_scales.len != asked * 4))) {
        PyErr_SetString(PyExc_ValueError, "the base has another number of rows, or other scales");
        goto release_all;
    }
    const int64_t *row = rows.buf;
    const uint32_t *pointers = (const uint32_t *)((char *)live.buffer.buf + live.pointers);
    for (int64_t i = 0; i < asked; i++) {
        char *to = (char *)out.buf + i * row_bytes;
        int64_t from = row[i], number;
        float scale;
        if (from >= 0 && from < live.rows) {
            number = __atomic_load_n(pointers + from, __ATOMIC_ACQUIRE);
        } else {
            /* A key that the base has not: its record's number is how far its row lies behind. */
            number = from > live.rows ? from - live.rows : 0;
            from = live.rows;
        }
        if (number > 0 && number < live.count &&
            read_record(&live, number, row_bytes, to, &scale)) {
            if (scaled)
                ((float *)out_scales.buf)[i] = scale;
            continue;
        }
        memcpy(to, (const char *)base.buf + from * row_bytes, (size_t)row_bytes);
        if (scaled)
            ((float *)out_scales.buf)[i] = ((const float *)scales.buf)[from];
    }
    answer = Py_None;
    Py_INCREF(answer);
release_all:
    if (scaled)
        PyBuffer_Release(&out_scales);
release_scales:
    if (scaled)
        PyBuffer_Release(&scales);
release_live:
    PyBuffer_Release(&live.buffer);
release_base:
    PyBuffer_Release(&base);
release_out:
    PyBuffer_Release(&out);
release_rows:
    PyBuffer_Release(&rows);
    return answer;
}

static PyObject *put(PyObject *self, PyObject *args)
{
    PyObject *live_in, *layout, *numbers_in, *values_in, *scales_in, *answer = NULL;
    Py_buffer numbers, values, scales;
    unsigned int flag;
    Live live;
    if (!PyArg_ParseTuple(args, "OO!OOOI", &live_in, &PyTuple_Type, &layout, &numbers_in,
                          &values_in, &scales_in, &flag))
        return NULL;
    if (PyObject_GetBuffer(numbers_in, &numbers, PyBUF_C_CONTIGUOUS) < 0)
        return NULL;
    if (PyObject_GetBuffer(values_in, &values, PyBUF_C_CONTIGUOUS) < 0)
        goto release_numbers;
    if (PyObject_GetBuffer(scales_in, &scales, PyBUF_C_CONTIGUOUS) < 0)
        goto release_values;
    const int64_t count = numbers.len / 8;
    const int64_t row_bytes = count ? values.len / count : 0;
    if (numbers.itemsize != 8 || row_bytes * count != values.len || scales.len != count * 4) {
        PyErr_SetString(PyExc_ValueError, "numbers are int64 [n]; values and scales have n rows");
        goto release_scales;
    }
    if (get_live(live_in, layout, &live, row_bytes, PyBUF_WRITABLE) < 0)
        goto release_scales;
    const int64_t *number = numbers.buf;
    for (int64_t i = 0; i < count; i++) {
        if (number[i] < 1 || number[i] >= live.count) {
            PyErr_SetString(PyExc_ValueError, "there is no record of that number");
            goto release_live;
        }
    }
    Py_BEGIN_ALLOW_THREADS
    for (int64_t i = 0; i < count; i++) {
        char *record = (char *)live.buffer.buf + live.records + number[i] * live.stride;
        uint32_t *word = (uint32_t *)record;
        const uint32_t before = *word;
        /* 0 says that nothing was ever written: the word passes over it, its lowest bit kept. */
        const uint32_t after = before + 1 ? before + 1 : 2;
        unsigned char *payload = (unsigned char *)record + RECORD_HEAD + (after & 1) * live.payload;
        memcpy(payload, &flag, 4);
        memcpy(payload + 4, (const char *)scales.buf + i * 4, 4);
        memcpy(payload + PAYLOAD_HEAD, (const char *)values.buf + i * row_bytes, (size_t)row_bytes);
        const uint32_t crc =
            crc32_on(crc32_on(0, payload, 8), payload + PAYLOAD_HEAD, row_bytes);
        memcpy(payload + 8, &crc, 4);
        __atomic_store_n(word, after, __ATOMIC_RELEASE);
        /* The next payload must not be seen before this word: a reader of the old one would
           find its word unmoved. */
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
    }
    Py_END_ALLOW_THREADS
    answer = Py_None;
    Py_INCREF(answer);
release_live:
    PyBuffer_Release(&live.buffer);
release_scales:
    PyBuffer_Release(&scales);
release_values:
    PyBuffer_Release(&values);
release_numbers:
    PyBuffer_Release(&numbers);
    return answer;
}

static int get_word(PyObject *object, long long offset, int width, int flags, Py_buffer *buffer)
{
    if (PyObject_GetBuffer(object, buffer, PyBUF_C_CONTIGUOUS | flags) < 0)
        return -1;
    if (offset < 0 || offset % width || offset > buffer->len - width) {
        PyBuffer_Release(buffer);
        PyErr_SetString(PyExc_ValueError, "there is no such word in the live file");
        return -1;
    }
    return 0;
}

static PyObject *load(PyObject *self, PyObject *args)
{
    PyObject *object;
    long long offset;
    int width;
    Py_buffer buffer;
    if (!PyArg_ParseTuple(args, "OLi", &object, &offset, &width))
        return NULL;
    width = width == 4 ? 4 : 8;
    if (get_word(object, offset, width, 0, &buffer) < 0)
        return NULL;
    const char *at = (const char *)buffer.buf + offset;
    const uint64_t value = width == 4 ? __atomic_load_n((const uint32_t *)at, __ATOMIC_ACQUIRE)
                                      : __atomic_load_n((const uint64_t *)at, __ATOMIC_ACQUIRE);
    PyBuffer_Release(&buffer);
    return PyLong_FromUnsignedLongLong(value);
}

static PyObject *store(PyObject *self, PyObject *args)
{
    PyObject *object;
    long long offset;
    unsigned long long value;
    int width;
    Py_buffer buffer;
    if (!PyArg_ParseTuple(args, "OLiK", &object, &offset, &width, &value))
        return NULL;
    width = width == 4 ? 4 : 8;
    if (get_word(object, offset, width, PyBUF_WRITABLE, &buffer) < 0)
        return NULL;
    char *at = (char *)buffer.buf + offset;
    /* What was written before is seen before the word, what comes after is not. */
    if (width == 4)
        __atomic_store_n((uint32_t *)at, (uint32_t)value, __ATOMIC_RELEASE);
    else
        __atomic_store_n((uint64_t *)at, (uint64_t)value, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    PyBuffer_Release(&buffer);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"gather", gather, METH_VARARGS,
     "gather(base, scales, live, layout, rows, out, out_scales)"},
    {"put", put, METH_VARARGS, "put(live, layout, numbers, values, scales, flag)"},
    {"load", load, METH_VARARGS, "load(live, offset, width) -> int"},
    {"store", store, METH_VARARGS, "store(live, offset, width, value)"},
    {NULL, NULL, 0, NULL},
};

static PyModuleDef_Slot module_slots[] = {{0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_live", "Live rows; see martlet/stores/slots.py.", 0, methods,
    module_slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__live(void)
{
    make_crc_table();
    return PyModuleDef_Init(&module);
}
