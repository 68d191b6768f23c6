/*
 * Decision trees over a float matrix: the compiled twin of martlet/formats/trees/forest.py.
 *
 * Forest(...) holds the trees, as forest.h has them. Sum(forest, ...) adds up what they say.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "arrays.h"
#include "forest.h"
#include "forest_build.h"
#include "forest_rows.h"
#include "objects.h"

#define GIL_WORK 8000           /* row-tree pairs above which the GIL is let go: about 40 us */
#define STACK_FEATURES 512
#define STACK_ROW (STACK_FEATURES + STACK_FEATURES / 2) /* doubles: the values and their codes */
#define STACK_OUTPUTS 64

static PyTypeObject *forest_type; /* what a Sum demands */

/* ---- rows as Python gives them ------------------------------------------------------------ */

/* Reads one row, a float array or a list or tuple of numbers (None: missing), into *to*. */
static int read_row(const Forest *f, PyObject *object, void *to)
{
    const int is_list = PyList_Check(object);
    if (is_list || PyTuple_Check(object)) {
        const Py_ssize_t size = is_list ? PyList_Size(object) : PyTuple_Size(object);
        if (size != f->features) {
            PyErr_Format(PyExc_ValueError, "a row of %zd values where %d are wanted", size,
                         (int)f->features);
            return -1;
        }
        for (Py_ssize_t i = 0; i < size; i++) {
            PyObject *item = is_list ? PyList_GetItem(object, i) : PyTuple_GetItem(object, i);
            double value;
            if (item == NULL)
                return -1; /* the list shrank under a number's own __float__ */
            if (item == Py_None)
                value = Py_NAN;
            else {
                Py_INCREF(item);
                value = PyFloat_AsDouble(item);
                Py_DECREF(item);
                if (value == -1.0 && PyErr_Occurred())
                    return -1;
            }
            put(f, to, i, value);
        }
        return 0;
    }
    Py_buffer view;
    if (get_buffer(object, &view, "row", 'r', PyBUF_SIMPLE) < 0)
        return -1;
    const int from_single = view.itemsize == (Py_ssize_t)sizeof(float);
    int result = -1;
    if (view.len / view.itemsize != f->features)
        PyErr_Format(PyExc_ValueError, "a row of %zd values where %d are wanted",
                     view.len / view.itemsize, (int)f->features);
    else {
        convert(f, view.buf, 1, from_single, to);
        result = 0;
    }
    PyBuffer_Release(&view);
    return result;
}

/* Room for one row: doubles, then codes. */
static void *row_space(const Forest *f, double *stack)
{
    if (f->features <= STACK_FEATURES)
        return stack;
    void *space = malloc((size_t)f->features * (sizeof(double) + sizeof(int32_t)));
    if (!space)
        PyErr_NoMemory();
    return space;
}

/* ---- Forest ------------------------------------------------------------------------------- */

static void forest_dealloc(PyObject *self)
{
    free_nodes((Forest *)self);
    free_object(self);
}

static PyObject *forest_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    int features, rounds, truncates;
    PyObject *given[7];
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "ippOOOOOOO", &features, &rounds, &truncates, &given[0], &given[1], &given[2],
                          &given[3], &given[4], &given[5], &given[6]))
        return NULL;
    if (features < 0 || features >= MOST_FEATURES) {
        PyErr_SetString(PyExc_ValueError, "features is out of range");
        return NULL;
    }
    Forest *f = new_object(type);
    if (!f)
        return NULL;
    f->features = features;
    f->rounds = rounds;
    f->truncates = truncates;
    if (build(f, given, chosen.most_cuts) < 0) {
        Py_DECREF(f);
        return NULL;
    }
    return (PyObject *)f;
}

/* Opens X [rows, features] as *matrix* of *x*, and *out* of *item* with *width* items a row. */
static int open_matrix(const Forest *f, PyObject *const *args, Py_ssize_t nargs, Py_buffer *x,
                       Matrix *matrix, Py_buffer *out, char kind, Py_ssize_t width)
{
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "(x, out) are wanted");
        return -1;
    }
    if (get_strided(args[0], x, "x", 'r', PyBUF_SIMPLE) < 0)
        return -1;
    if (get_buffer(args[1], out, "out", kind, PyBUF_WRITABLE) < 0) {
        PyBuffer_Release(x);
        return -1;
    }
    const Py_ssize_t rows = x->ndim == 2 ? x->shape[0] : -1, size = x->itemsize;
    if (rows < 0 || x->shape[1] != f->features || out->len / out->itemsize != rows * width ||
        x->strides[0] % size || x->strides[1] % size) {
        PyErr_Format(PyExc_ValueError, "x of %d columns, and out to match, are wanted",
                     (int)f->features);
        PyBuffer_Release(x);
        PyBuffer_Release(out);
        return -1;
    }
    *matrix = (Matrix){x->buf, size == (Py_ssize_t)sizeof(float), rows, x->strides[0] / size,
                       x->strides[1] / size};
    return 0;
}

static PyObject *close_matrix(Py_buffer *x, Py_buffer *out, int failed)
{
    PyBuffer_Release(x);
    PyBuffer_Release(out);
    if (failed)
        return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static int run(const Forest *f, const Matrix *x, const Wanted *wanted)
{
    int failed;
    if ((double)x->rows * f->trees < GIL_WORK)
        return run_rows(f, x, wanted);
    Py_BEGIN_ALLOW_THREADS
    failed = run_rows(f, x, wanted);
    Py_END_ALLOW_THREADS
    return failed;
}

static PyObject *forest_leaves(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    Forest *f = (Forest *)self;
    Py_buffer x, out;
    Matrix matrix;
    if (open_matrix(f, args, nargs, &x, &matrix, &out, 'i', f->trees) < 0)
        return NULL;
    const Wanted wanted = {out.buf, NULL, NULL};
    return close_matrix(&x, &out, run(f, &matrix, &wanted));
}

static PyObject *forest_row(PyObject *self, PyObject *row)
{
    Forest *f = (Forest *)self;
    double stack[STACK_ROW];
    PyObject *list = NULL;
    int32_t *leaves = NULL;
    void *x = row_space(f, stack);
    if (!x)
        return NULL;
    if (read_row(f, row, x) < 0)
        goto done;
    if (!(leaves = malloc((size_t)f->trees * sizeof(int32_t) + 1))) {
        PyErr_NoMemory();
        goto done;
    }
    walk_row(f, x, codes_in(f, x), leaves, NULL, NULL);
    if (!(list = PyList_New(f->trees)))
        goto done;
    for (int32_t i = 0; i < f->trees; i++) {
        PyObject *item = PyLong_FromLong(leaves[i]);
        if (!item) {
            Py_CLEAR(list);
            break;
        }
        PyList_SetItem(list, i, item);
    }
done:
    free(leaves);
    if (x != stack)
        free(x);
    return list;
}

static PyObject *forest_kept(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(((const Forest *)self)->kept);
}

static PyMethodDef forest_methods[] = {
    {"kept", forest_kept, METH_NOARGS, "kept(): how many trees are kept as cuts"},
    {"leaves", (PyCFunction)(void (*)(void))forest_leaves, METH_FASTCALL,
     "leaves(x, out): fill out, int32 [rows, trees], for x, float32 or float64 [rows, features]"},
    {"row", forest_row, METH_O, "row(x): the answers of the trees for one row, a list"},
    {NULL, NULL, 0, NULL}};

static PyType_Slot forest_slots[] = {{Py_tp_new, forest_new},
                                     {Py_tp_dealloc, forest_dealloc},
                                     {Py_tp_methods, forest_methods},
                                     {0, NULL}};

static PyType_Spec forest_spec = {"martlet.native._forest.Forest", sizeof(Forest), 0,
                                  Py_TPFLAGS_DEFAULT, forest_slots};

/* ---- Sum ---------------------------------------------------------------------------------- */

static void sum_dealloc(PyObject *self)
{
    Sum *s = (Sum *)self;
    Py_XDECREF((PyObject *)s->forest);
    free(s->target);
    free(s->values);
    free(s->weights);
    free(s->start);
    free(s->adds);
    free_object(self);
}

static PyObject *sum_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *o_forest, *o_values, *o_target, *o_weights, *o_start;
    int single;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OOOOOp", &o_forest, &o_values, &o_target, &o_weights, &o_start,
                          &single))
        return NULL;
    if (Py_TYPE(o_forest) != forest_type) {
        PyErr_SetString(PyExc_TypeError, "a Forest is wanted");
        return NULL;
    }
    Sum *s = new_object(type);
    if (!s)
        return NULL;
    Py_INCREF(o_forest);
    Forest *f = s->forest = (Forest *)o_forest;
    s->single = single;
    Py_ssize_t trees = f->trees, outputs = -1, cells;
    if (!(s->start = copy_items(o_start, "start", 'd', &outputs)) ||
        !(s->weights = copy_items(o_weights, "weights", 'd', &trees)))
        goto fail;
    if (outputs < 1 || outputs > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "start: one value per output is wanted");
        goto fail;
    }
    s->outputs = (int32_t)outputs;
    if (o_target != Py_None) {
        if (!(s->target = copy_items(o_target, "target", 'i', &trees)))
            goto fail;
        for (int32_t i = 0; i < f->trees; i++)
            if (s->target[i] < 0 || s->target[i] >= s->outputs) {
                out_of_range("target", i);
                goto fail;
            }
    }
    cells = ((Py_ssize_t)f->answers + 1) * (s->target ? 1 : outputs);
    if (!(s->values = copy_items(o_values, "values", 'd', &cells)))
        goto fail;
    if (!s->target && outputs == 1)
        s->target = calloc((size_t)trees + 1, sizeof *s->target);
    if ((outputs == 1 && !s->target) || (s->target && make_adds(s) < 0)) {
        PyErr_NoMemory();
        goto fail;
    }
    return (PyObject *)s;
fail:
    Py_DECREF(s);
    return NULL;
}

static PyObject *sum_rows(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    Sum *s = (Sum *)self;
    Py_buffer x, out;
    Matrix matrix;
    if (open_matrix(s->forest, args, nargs, &x, &matrix, &out, 'd', s->outputs) < 0)
        return NULL;
    const Wanted wanted = {NULL, s, out.buf};
    return close_matrix(&x, &out, run(s->forest, &matrix, &wanted));
}

static PyObject *sum_row(PyObject *self, PyObject *row)
{
    Sum *s = (Sum *)self;
    double stack[STACK_ROW], few[STACK_OUTPUTS];
    double *sums = few;
    PyObject *list = NULL;
    void *x = row_space(s->forest, stack);
    if (!x)
        return NULL;
    if (read_row(s->forest, row, x) < 0)
        goto done;
    if (s->outputs > STACK_OUTPUTS &&
        !(sums = malloc((size_t)s->outputs * sizeof(double)))) {
        PyErr_NoMemory();
        goto done;
    }
    memcpy(sums, s->start, (size_t)s->outputs * sizeof(double));
    walk_row(s->forest, x, codes_in(s->forest, x), NULL, s, sums);
    if (!(list = PyList_New(s->outputs)))
        goto done;
    for (int32_t k = 0; k < s->outputs; k++) {
        PyObject *item = PyFloat_FromDouble(sums[k]);
        if (!item) {
            Py_CLEAR(list);
            break;
        }
        PyList_SetItem(list, k, item);
    }
done:
    if (sums != few)
        free(sums);
    if (x != stack)
        free(x);
    return list;
}

static PyMethodDef sum_methods[] = {
    {"rows", (PyCFunction)(void (*)(void))sum_rows, METH_FASTCALL,
     "rows(x, out): fill out, float64 [rows, outputs]"},
    {"row", sum_row, METH_O, "row(x): the sums for one row, a list"},
    {NULL, NULL, 0, NULL}};

static PyType_Slot sum_slots[] = {{Py_tp_new, sum_new},
                                  {Py_tp_dealloc, sum_dealloc},
                                  {Py_tp_methods, sum_methods},
                                  {0, NULL}};

static PyType_Spec sum_spec = {"martlet.native._forest.Sum", sizeof(Sum), 0, Py_TPFLAGS_DEFAULT,
                               sum_slots};

/* use(name=None) */
static PyObject *use(PyObject *self, PyObject *args)
{
    const char *name = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "|z", &name))
        return NULL;
    if (choose(name) < 0) {
        PyErr_Format(PyExc_ValueError, "this machine has no kernel %s", name);
        return NULL;
    }
    return PyUnicode_FromString(chosen.name);
}

static PyMethodDef methods[] = {
    {"use", use, METH_VARARGS,
     "use(name=None): compute by this kernel from now on (None: the machine's best); its name."},
    {NULL, NULL, 0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_forest", "Decision trees over a float matrix.", -1, methods, NULL,
    NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__forest(void)
{
    choose(NULL);
    PyObject *m = module_with(&module, &sum_spec);
    forest_type = (PyTypeObject *)PyType_FromSpec(&forest_spec);
    if (!forest_type || (m && PyModule_AddType(m, forest_type) < 0))
        Py_CLEAR(m);
    return m;
}
