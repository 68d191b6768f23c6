/* Whether an array of objects is text: see martlet.formats.onnx.values.text_for. */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <string.h>

static PyObject *all_str(PyObject *Py_UNUSED(module), PyObject *values)
{
    Py_buffer view;
    if (PyObject_GetBuffer(values, &view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0)
        return NULL;
    PyObject **items = view.buf;
    const int objects = view.format && strcmp(view.format, "O") == 0;
    const Py_ssize_t count = objects ? view.len / (Py_ssize_t)sizeof(PyObject *) : 0;
    Py_ssize_t at = 0;
    while (at < count && items[at] != NULL && PyUnicode_Check(items[at]))
        at++;
    PyBuffer_Release(&view);
    return PyBool_FromLong(objects && at == count);
}

static PyMethodDef methods[] = {
    {"all_str", all_str, METH_O, "all_str(values) -> bool: whether they are objects, each a str"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_texts", "What arrays of objects hold.", -1, methods,
    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__texts(void) { return PyModule_Create(&module); }
