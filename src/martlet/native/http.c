/* A request that came whole, read in one pass.
 *
 * parse(data, head_limit, body_limit) -> None | (method, target, headers, body, keep_alive)
 *
 * None where http.h declines: nothing was touched, and the complete parser takes over. What both
 * read, they read the same.
 */
#define Py_LIMITED_API 0x030B0000
#include "http.h"

/* Reads the fields into *headers*; the place behind them, NULL where one is declined.
 * Sets *failed on a Python error. */
static const char *fields(const char *at, const char *end, PyObject *headers, Framing *framing,
                          int *failed) {
    Field field;
    while (end - at >= 2 && !is_head_end(at, end)) {
        at = read_field(at, end, &field);
        if (at == NULL || !note_framing(framing, &field))
            return NULL;
        PyObject *name = PyBytes_FromStringAndSize(field.name, field.name_length);
        PyObject *value = PyBytes_FromStringAndSize(field.value.at, field.value.length);
        *failed = name == NULL || value == NULL || PyDict_SetItem(headers, name, value) < 0;
        Py_XDECREF(name);
        Py_XDECREF(value);
        if (*failed)
            return NULL;
    }
    return at;
}

static PyObject *parse(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *data;
    Py_ssize_t head_limit, body_limit;
    if (!PyArg_ParseTuple(args, "Snn", &data, &head_limit, &body_limit))
        return NULL;
    char *start;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(data, &start, &size) < 0)
        return NULL;
    const char *end = start + size;
    Slice method, target, body;
    const char *at = read_request_line(start, end, &method, &target);
    if (at == NULL)
        Py_RETURN_NONE;
    PyObject *headers = PyDict_New();
    if (headers == NULL)
        return NULL;
    Framing framing = NOTHING_SAID;
    int failed = 0;
    at = fields(at, end, headers, &framing, &failed);
    if (failed || !read_body_slice(start, at, end, &framing, head_limit, body_limit, &body)) {
        Py_DECREF(headers);
        if (failed)
            return NULL;
        Py_RETURN_NONE;
    }
    PyObject *result = NULL;
    PyObject *verb = PyUnicode_InternFromString(method.at[0] == 'P' ? "POST" : "GET");
    PyObject *path = PyUnicode_FromStringAndSize(target.at, target.length);
    PyObject *content = PyBytes_FromStringAndSize(body.at, body.length);
    if (verb != NULL && path != NULL && content != NULL)
        result = PyTuple_Pack(5, verb, path, headers, content,
                              framing.keep_alive ? Py_True : Py_False);
    Py_XDECREF(verb);
    Py_XDECREF(path);
    Py_XDECREF(content);
    Py_DECREF(headers);
    return result;
}

static PyMethodDef methods[] = {
    {"parse", parse, METH_VARARGS,
     "parse(data, head_limit, body_limit) -> None | (method, target, headers, body, keep_alive)"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_http", "One request that came whole.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__http(void) {
    fill_token();
    return PyModule_Create(&module);
}
