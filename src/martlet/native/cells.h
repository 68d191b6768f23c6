/* The columns of numbers and categories that CatBoost is asked with, as Python gives them. */
#ifndef MARTLET_CELLS_H
#define MARTLET_CELLS_H
#include <Python.h>
#include <stdint.h>
#include <string.h>

#include "cityhash.h"

#define FEW_ROWS 4 /* up to here an item costs less than a column's buffer */

/* The low 32 bits of the hash: CatBoost's number of a category. */
static int32_t category_hash(const char *text, Py_ssize_t length)
{
    return (int32_t)(uint32_t)city_hash(text, (size_t)length);
}

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

#endif
