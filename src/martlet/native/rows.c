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
#include "columns.h"

#define COPIED_BYTES 64 /* a shorter row is copied for each item: as martlet.tensors.repeated */
#define EXACT 9007199254740992.0 /* 2**53: integers below it are exact in a double */

typedef struct {
    PyObject_HEAD
    Inputs inputs;
    PyObject *kept; /* the arguments: they keep the bytes below alive */
    const char *signature;
    Py_ssize_t signature_size;
    int is_default; /* a body that names no signature means this one */
    PyObject *repeat; /* repeat(tensor of one row, count) */
} Plan;

/* ---- objects of columns ------------------------------------------------------------------- */

/* Reads a key and the colon after it; the input of that name, tried from *guess* on, or -1. */
static Py_ssize_t read_key(const Inputs *inputs, Text *t, Py_ssize_t guess)
{
    if (!take(t, '"'))
        return -1;
    const Py_ssize_t left = t->end - t->at;
    for (Py_ssize_t tried = 0, i = guess; tried < inputs->count; tried++, i++) {
        if (i >= inputs->count)
            i = 0;
        const Py_ssize_t size = inputs->name_size[i];
        if (size < left && t->at[size] == '"' && !memcmp(t->at, inputs->name[i], (size_t)size)) {
            t->at += size + 1;
            return take(t, ':') ? i : -1;
        }
    }
    return -1;
}

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

/* ---- ":rank" ------------------------------------------------------------------------------ */

enum { SHARED = 1, OF_ITEMS = 2 }; /* what Column.seen says here */

/* Reads the values that all items share, or the columns of the items. */
static Outcome read_part(const Inputs *inputs, Text *t, Column *columns, Py_ssize_t part)
{
    Py_ssize_t guess = 0;
    if (!take(t, '{'))
        return LEAVE;
    if (part == SHARED && take(t, '}'))
        return OK;
    do {
        const Py_ssize_t i = read_key(inputs, t, guess);
        if (i < 0 || columns[i].seen)
            return LEAVE;
        columns[i].seen = part;
        const Outcome outcome = read_value(t, (Kind)inputs->kind[i], &columns[i]);
        if (outcome != OK)
            return outcome;
        guess = i + 1;
    } while (take(t, ','));
    return take(t, '}') ? OK : LEAVE;
}

static Outcome read_rank(const Inputs *inputs, Text *t, Column *columns)
{
    int context = 0, items = 0;
    if (!take(t, '{'))
        return LEAVE;
    do {
        Outcome outcome;
        if (!take(t, '"'))
            return LEAVE;
        if (read_word(t, "context\"") && !context++ && take(t, ':'))
            outcome = read_part(inputs, t, columns, SHARED);
        else if (read_word(t, "items\"") && !items++ && take(t, ':'))
            outcome = read_part(inputs, t, columns, OF_ITEMS);
        else
            return LEAVE;
        if (outcome != OK)
            return outcome;
    } while (take(t, ','));
    if (!take(t, '}') || !items || !is_complete(inputs, columns))
        return LEAVE;
    skip_space(t);
    return t->at == t->end ? OK : LEAVE;
}

/* Whether every number is finite, and the same whether it was an integer or not. */
static int is_exact(const Column *c, Kind kind)
{
    int exact = 1;
    if (kind == FLOAT32)
        for (const float *at = (float *)c->data; (char *)at < c->data + c->used; at++)
            exact &= fabsf(*at) < (float)EXACT;
    if (kind == FLOAT64)
        for (const double *at = (double *)c->data; (char *)at < c->data + c->used; at++)
            exact &= fabs(*at) < EXACT;
    return exact;
}

/* The shape of input *i* for *count* items; its rank, or 0: leave it. */
static int rank_shape(const Inputs *inputs, Py_ssize_t i, const Column *c, Py_ssize_t count,
                      Py_ssize_t *size)
{
    const int declared = inputs->rank[i], depth = c->leaf_depth;
    size[0] = count;
    if (c->seen == OF_ITEMS) {
        for (int axis = 1; axis < depth; axis++)
            size[axis] = c->size[axis];
        if (depth != 1 || declared != 2)
            return depth;
        size[1] = 1; /* a bare number for each item is a row of one */
        return 2;
    }
    const int rank = declared < 0 ? 1 : declared;
    if (depth == 0) { /* a bare scalar is a row of one, however deep */
        for (int axis = 1; axis < rank; axis++)
            size[axis] = 1;
        return rank;
    }
    const int above = depth == rank; /* it came as one of rows */
    if ((depth != rank - 1 && !above) || (above && c->size[0] != 1))
        return 0;
    for (int axis = 1; axis < rank; axis++)
        size[axis] = c->size[axis - 1 + above];
    return rank;
}

/* The tensor of what all items share, once for each. */
static PyObject *shared_tensor(const Plan *plan, Py_ssize_t i, Column *c, int rank,
                               Py_ssize_t *size)
{
    const Py_ssize_t count = size[0], row_bytes = c->used;
    if (c->strings || row_bytes >= COPIED_BYTES) {
        size[0] = 1;
        PyObject *row = tensor_of(&plan->inputs, i, c, rank, size);
        PyObject *found = row ? PyObject_CallFunction(plan->repeat, "On", row, count) : NULL;
        Py_XDECREF(row);
        return found;
    }
    char *grown = realloc(c->data, (size_t)(row_bytes * count) + 1);
    if (!grown)
        return PyErr_NoMemory();
    c->data = grown;
    for (; c->used < row_bytes * count; c->used += row_bytes)
        memcpy(grown + c->used, grown, (size_t)row_bytes);
    return tensor_of(&plan->inputs, i, c, rank, size);
}

static Outcome rank_inputs(const Plan *plan, Column *columns, PyObject *tensors)
{
    const Inputs *inputs = &plan->inputs;
    Py_ssize_t count = -1;
    for (Py_ssize_t i = 0; i < inputs->count; i++)
        if (columns[i].seen == OF_ITEMS) {
            if (columns[i].leaf_depth < 1 || (count >= 0 && columns[i].size[0] != count))
                return LEAVE;
            count = columns[i].size[0];
        }
    for (Py_ssize_t i = 0; i < inputs->count; i++) {
        Column *c = &columns[i];
        Py_ssize_t size[MOST_RANK + 1];
        if (!c->seen)
            continue;
        const int rank = rank_shape(inputs, i, c, count, size);
        if (!rank || !is_exact(c, (Kind)inputs->kind[i]) ||
            (inputs->enforced[i] && !fits(inputs, i, rank, size)))
            return LEAVE;
        PyObject *tensor = c->seen == SHARED ? shared_tensor(plan, i, c, rank, size)
                                             : tensor_of(inputs, i, c, rank, size);
        if (!put_tensor(inputs, i, tensors, tensor))
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
        outcome = is_rank ? rank_inputs(plan, columns, tensors)
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
    PyTypeObject *type = Py_TYPE(self);
    free_inputs(&plan->inputs);
    Py_XDECREF(plan->kept);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *plan_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *inputs, *signature, *repeat;
    int is_default;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!SpO", &PyTuple_Type, &inputs, &signature, &is_default, &repeat))
        return NULL;
    Plan *plan = (Plan *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
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
    PyObject *m = PyModule_Create(&module);
    PyTypeObject *plan_type = (PyTypeObject *)PyType_FromSpec(&plan_spec);
    block_type = (PyTypeObject *)PyType_FromSpec(&block_spec);
    if (!m || !plan_type || !block_type || PyModule_AddType(m, plan_type) < 0) {
        Py_XDECREF(m);
        return NULL;
    }
    return m;
}
