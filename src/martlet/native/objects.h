/* How an extension type of ours is allocated, freed, and put into its module. */
#ifndef MARTLET_OBJECTS_H
#define MARTLET_OBJECTS_H
#include <Python.h>

/* A new object of *type*, all zeros; NULL with an error set. */
static inline void *new_object(PyTypeObject *type)
{
    return ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
}

/* The end of a tp_dealloc. Each object of a type made from a spec holds a reference to that type. */
static inline void free_object(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

/* The module of *definition*, with the type of *spec* in it; NULL with an error set. */
static inline PyObject *module_with(struct PyModuleDef *definition, PyType_Spec *spec)
{
    PyObject *module = PyModule_Create(definition), *type = PyType_FromSpec(spec);
    if (!type || (module && PyModule_AddType(module, (PyTypeObject *)type) < 0))
        Py_CLEAR(module);
    Py_XDECREF(type);
    return module;
}

#endif
