/*
 * The bodies of TensorFlow Serving's ":predict" and of our own ":rank", read straight into columns.
 *
 * This is the short way for bodies of the expected shape. Whatever is not (an unknown or repeated
 * key, a ragged list, a value of another type, an empty list, a shape that the model does not take,
 * {"b64": ...}, a syntax error) makes decode() return None, and the complete reader in martlet/wire
 * decides what it is and what to say of it. So this file knows no error message, and must never
 * accept what that reader would refuse, nor read a value otherwise.
 */
#define BLOCK_NAME "martlet.native._rows.Block"
#include "rank_bodies.h"

typedef struct {
    PyObject_HEAD
    Inputs inputs;
    PyObject *kept; /* the arguments: they keep the bytes below alive */
    const char *signature;
    Py_ssize_t signature_size;
    int is_default; /* a body that names no signature means this one */
    PyObject *repeat; /* repeat(tensor of one row, count) */
} Plan;

/* ---- ":predict" --------------------------------------------------------------------------- */

/* Reads an object with each input once, as row *row* (from 1) of the columns. *inputs_there*: how
 * many there are in a row, 0 before the first; those of a row are those of the one before. */
static Outcome read_object(const Inputs *inputs, Text *t, Column *columns, Py_ssize_t row,
                           Py_ssize_t *there)
{
    Py_ssize_t seen = 0, guess = 0;
    if (!take(t, '{'))
        return LEAVE;
    do {
        const Py_ssize_t i = read_key(inputs, t, guess);
        if (i < 0 || columns[i].seen != row - 1)
            return LEAVE;
        columns[i].seen = row;
        const Outcome outcome = read_value(t, (Kind)inputs->kind[i], &columns[i]);
        if (outcome != OK)
            return outcome;
        seen++;
        guess = i + 1;
    } while (take(t, ','));
    if (!take(t, '}') || (row == 1 ? !is_complete(inputs, columns) : seen != *there))
        return LEAVE;
    *there = seen;
    return OK;
}

/* Makes room for as many rows as the rest of the body can hold, judged by the first. */
static void expect(Column *columns, Py_ssize_t inputs, Py_ssize_t row_bytes, Py_ssize_t left)
{
    for (Py_ssize_t i = 0; i < inputs; i++) {
        const Py_ssize_t room = columns[i].used * (left / (row_bytes + 1) + 2);
        char *grown = columns[i].data ? realloc(columns[i].data, (size_t)room) : NULL;
        if (grown) {
            columns[i].data = grown;
            columns[i].room = room;
        }
    }
}

/* Reads the value of the only input, which comes without its name. */
static Outcome read_bare(const Inputs *inputs, Text *t, Column *columns)
{
    if (inputs->count != 1)
        return LEAVE;
    columns[0].seen = 1;
    return read_value(t, (Kind)inputs->kind[0], &columns[0]);
}

static Outcome read_rows(const Plan *plan, Text *t, Column *columns, Py_ssize_t *rows)
{
    const Inputs *inputs = &plan->inputs;
    Py_ssize_t there = 0;
    Text ahead = *t;
    if (!take(&ahead, '['))
        return LEAVE;
    skip_space(&ahead);
    if (!is_at(&ahead, '{')) {
        *rows = -1; /* bare values: the list of rows is the first axis */
        return read_bare(inputs, t, columns);
    }
    *t = ahead;
    *rows = 0;
    do {
        skip_space(t);
        const char *begun = t->at;
        const Outcome outcome = read_object(inputs, t, columns, ++*rows, &there);
        if (outcome != OK)
            return outcome;
        if (*rows == 1)
            expect(columns, inputs->count, t->at - begun, t->end - t->at);
    } while (take(t, ','));
    return take(t, ']') ? OK : LEAVE;
}

static Outcome read_columns(const Plan *plan, Text *t, Column *columns)
{
    Py_ssize_t there = 0;
    skip_space(t);
    if (is_at(t, '{'))
        return read_object(&plan->inputs, t, columns, 1, &there);
    return read_bare(&plan->inputs, t, columns);
}

/* Reads the value of "signature_name": whether it is this plan's. */
static int read_signature(const Plan *plan, Text *t)
{
    if (!take(t, '"'))
        return 0;
    if (plan->is_default && is_at(t, '"')) {
        t->at++;
        return 1;
    }
    const Py_ssize_t size = plan->signature_size;
    if (t->end - t->at <= size || t->at[size] != '"' ||
        memcmp(t->at, plan->signature, (size_t)size))
        return 0;
    t->at += size + 1;
    return 1;
}

/* *rows* becomes their number, -1 for bare rows, -2 for columns. */
static Outcome read_body(const Plan *plan, Text *t, Column *columns, Py_ssize_t *rows)
{
    int named = 0, filled = 0;
    if (!take(t, '{'))
        return LEAVE;
    do {
        Outcome outcome = OK;
        if (!take(t, '"'))
            return LEAVE;
        if (read_word(t, "signature_name\"")) {
            if (named++ || !take(t, ':') || !read_signature(plan, t))
                return LEAVE;
        } else if (read_word(t, "instances\"")) {
            if (filled++ || !take(t, ':'))
                return LEAVE;
            outcome = read_rows(plan, t, columns, rows);
        } else if (read_word(t, "inputs\"")) {
            if (filled++ || !take(t, ':'))
                return LEAVE;
            *rows = -2;
            outcome = read_columns(plan, t, columns);
        } else {
            return LEAVE;
        }
        if (outcome != OK)
            return outcome;
    } while (take(t, ','));
    if (!take(t, '}') || filled != 1 || (!named && !plan->is_default))
        return LEAVE;
    skip_space(t);
    return t->at == t->end ? OK : LEAVE;
}

/* ({name: tensor}, by row); LEAVE where one does not fit. */
static Outcome predict_inputs(const Plan *plan, Column *columns, Py_ssize_t rows, PyObject *tensors)
{
    const Inputs *inputs = &plan->inputs;
    const int outer = rows >= 0;
    for (Py_ssize_t i = 0; i < inputs->count; i++) {
        Column *c = &columns[i];
        Py_ssize_t size[MOST_RANK + 1] = {rows};
        if (!c->seen)
            continue;
        for (int axis = 0; axis < c->leaf_depth; axis++)
            size[outer + axis] = c->size[axis];
        const int rank = outer + c->leaf_depth;
        if (inputs->enforced[i] && !fits(inputs, i, rank, size))
            return LEAVE;
        if (!put_tensor(inputs, i, tensors, tensor_of(inputs, i, c, rank, size)))
            return FAILED;
    }
    return OK;
}

/* ---- Plan --------------------------------------------------------------------------------- */

/* Reads *body* as one of *rank*s or of predicts: ({name: tensor}, by row), or None: leave it. */
static PyObject *decode(const Plan *plan, PyObject *body, int is_rank)
{
    Py_buffer view;
    if (PyObject_GetBuffer(body, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    PyObject *tensors = PyDict_New(), *found = NULL;
    Column *columns = tensors ? new_columns(&plan->inputs) : NULL;
    Outcome outcome = columns ? OK : FAILED;
    Text text = {view.buf, (const char *)view.buf + view.len};
    Py_ssize_t rows = -2;
    if (outcome == OK)
        outcome = is_rank ? read_rank(&plan->inputs, &text, columns)
                          : read_body(plan, &text, columns, &rows);
    if (outcome == OK)
        outcome = is_rank ? rank_inputs(&plan->inputs, plan->repeat, columns, tensors)
                          : predict_inputs(plan, columns, rows, tensors);
    free_columns(&plan->inputs, columns);
    PyBuffer_Release(&view);
    if (outcome == OK)
        found = PyTuple_Pack(2, tensors, rows != -2 ? Py_True : Py_False);
    Py_XDECREF(tensors);
    return outcome == LEAVE ? Py_NewRef(Py_None) : found;
}

static PyObject *plan_decode(PyObject *self, PyObject *body)
{
    return decode((const Plan *)self, body, 0);
}

static PyObject *plan_decode_rank(PyObject *self, PyObject *body)
{
    return decode((const Plan *)self, body, 1);
}

static void plan_dealloc(PyObject *self)
{
    Plan *plan = (Plan *)self;
    free_inputs(&plan->inputs);
    Py_XDECREF(plan->kept);
    free_object(self);
}

static PyObject *plan_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *inputs, *signature, *repeat;
    int is_default;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!SpO", &PyTuple_Type, &inputs, &signature, &is_default, &repeat))
        return NULL;
    Plan *plan = new_object(type);
    if (!plan)
        return NULL;
    plan->kept = Py_NewRef(args);
    plan->signature = PyBytes_AsString(signature);
    plan->signature_size = PyBytes_Size(signature);
    plan->is_default = is_default;
    plan->repeat = repeat;
    if (read_inputs(&plan->inputs, inputs) == 0)
        return (PyObject *)plan;
    Py_DECREF(plan);
    return NULL;
}

static PyMethodDef plan_methods[] = {
    {"decode", plan_decode, METH_O,
     "decode(body of :predict): ({name: tensor}, by row), or None: leave it"},
    {"decode_rank", plan_decode_rank, METH_O,
     "decode_rank(body of :rank): ({name: tensor}, False), or None: leave it"},
    {NULL, NULL, 0, NULL}};

static PyType_Slot plan_slots[] = {{Py_tp_new, plan_new},
                                   {Py_tp_dealloc, plan_dealloc},
                                   {Py_tp_methods, plan_methods},
                                   {0, NULL}};
static PyType_Spec plan_spec = {"martlet.native._rows.Plan", sizeof(Plan), 0, Py_TPFLAGS_DEFAULT,
                                plan_slots};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_rows", "JSON bodies to columns.", -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__rows(void)
{
    block_type = (PyTypeObject *)PyType_FromSpec(&block_spec);
    return block_type ? module_with(&module, &plan_spec) : NULL;
}
