/* Arrays of one kind of number, as Python gives them. */

#ifndef MARTLET_ARRAYS_H
#define MARTLET_ARRAYS_H

#include <Python.h>
#include <stdlib.h>
#include <string.h>

/*
 * An array of any strides. *kind* is a letter of the module struct, 'r' for either of the reals 'f'
 * and 'd'.
 */
static int get_strided(PyObject *object, Py_buffer *view, const char *what, char kind, int flags)
{
    if (PyObject_GetBuffer(object, view, PyBUF_STRIDES | PyBUF_FORMAT | flags) < 0)
        return -1;
    const char *format = view->format ? view->format : "B";
    if (*format == '@' || *format == '=')
        format++;
    const int is_long = (*format == 'l' || *format == 'L') && format[1] == 0;
    char found = format[1] ? '?' : *format;
    if (is_long)
        found = view->itemsize == 8 ? (*format == 'l' ? 'q' : 'Q') : (*format == 'l' ? 'i' : 'I');
    if (kind != 'r' ? found != kind : found != 'd' && found != 'f') {
        PyErr_Format(PyExc_TypeError, "%s: items of format %s", what,
                     view->format ? view->format : "B");
        PyBuffer_Release(view);
        return -1;
    }
    return 0;
}

/* An array without gaps, by rows. */
static int get_buffer(PyObject *object, Py_buffer *view, const char *what, char kind, int flags)
{
    return get_strided(object, view, what, kind, PyBUF_C_CONTIGUOUS | flags);
}

/* Returns a copy of the *count* items of *object* (any number where count < 0). */
static void *copy_items(PyObject *object, const char *what, char kind, Py_ssize_t *count)
{
    Py_buffer view;
    if (get_buffer(object, &view, what, kind, PyBUF_SIMPLE) < 0)
        return NULL;
    const Py_ssize_t found = view.len / view.itemsize;
    void *copy = NULL;
    if (*count >= 0 && found != *count)
        PyErr_Format(PyExc_ValueError, "%s: %zd items where %zd are wanted", what, found, *count);
    else if ((copy = malloc((size_t)view.len + 1)) == NULL)
        PyErr_NoMemory();
    else
        memcpy(copy, view.buf, (size_t)view.len);
    *count = found;
    PyBuffer_Release(&view);
    return copy;
}

/* Sets the error of an index that *what* holds at *at*; returns -1. */
static inline int out_of_range(const char *what, Py_ssize_t at)
{
    PyErr_Format(PyExc_ValueError, "%s out of range at %zd", what, at);
    return -1;
}

#endif
