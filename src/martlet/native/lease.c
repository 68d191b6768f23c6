/* A count of who holds one thing: see martlet.serving.lease, its pure twin.
 *
 * It is under the interpreter's lock for the whole of each call, so it needs none of its own.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

typedef struct {
    PyObject_HEAD
    Py_ssize_t held;
    int draining;
    PyObject *drained; /* called when the last holder of a draining thing lets go */
} Lease;

static PyObject *lease_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs)) {
    PyObject *drained;
    if (!PyArg_ParseTuple(args, "O", &drained))
        return NULL;
    Lease *lease = (Lease *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (lease != NULL)
        lease->drained = Py_NewRef(drained);
    return (PyObject *)lease;
}

static void lease_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    Py_XDECREF(((Lease *)self)->drained);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *acquire(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    Lease *lease = (Lease *)self;
    if (lease->draining)
        Py_RETURN_FALSE;
    lease->held++;
    Py_RETURN_TRUE;
}

static PyObject *tell_when_drained(Lease *lease) {
    if (lease->draining && lease->held == 0)
        return PyObject_CallNoArgs(lease->drained);
    Py_RETURN_NONE;
}

static PyObject *release(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    ((Lease *)self)->held--;
    return tell_when_drained((Lease *)self);
}

static PyObject *drain(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    ((Lease *)self)->draining = 1;
    return tell_when_drained((Lease *)self);
}

static PyMethodDef lease_methods[] = {
    {"acquire", acquire, METH_NOARGS, "acquire() -> bool: False while it drains"},
    {"release", release, METH_NOARGS, "release(): give back what acquire gave"},
    {"drain", drain, METH_NOARGS, "drain(): refuse from now on"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot lease_slots[] = {{Py_tp_new, lease_new},
                                    {Py_tp_dealloc, lease_dealloc},
                                    {Py_tp_methods, lease_methods},
                                    {0, NULL}};
static PyType_Spec lease_spec = {"martlet.native._lease.Lease", sizeof(Lease), 0,
                                 Py_TPFLAGS_DEFAULT, lease_slots};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_lease", "Who holds one thing.", -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__lease(void) {
    PyObject *m = PyModule_Create(&module);
    PyObject *type = PyType_FromSpec(&lease_spec);
    if (m == NULL || type == NULL || PyModule_AddType(m, (PyTypeObject *)type) < 0) {
        Py_XDECREF(type);
        Py_XDECREF(m);
        return NULL;
    }
    Py_DECREF(type);
    return m;
}
