/*
 * The infer requests of the Open Inference Protocol, JSON or binary, read straight into columns.
 *
 * Plan(inputs, output).decode(body, length of its JSON or None) is ({name: tensor}, whether the
 * output goes back in binary, more of the reply), or None: what is not of the expected shape is
 * left to the complete reader, martlet/wire/openinference/request.py. As in rows.c, nothing is
 * accepted here that it would refuse, nor read otherwise.
 */
#define BLOCK_NAME "martlet.native._infer.Block"
#include "columns.h"

#define MOST_ELEMENTS 0x7fffffff
#define LONGEST_ID 128 /* of one that is read here */

static const char *const DATATYPES[KINDS] = {"BOOL",   "INT8",   "INT16",  "INT32", "INT64", "UINT8",
                                             "UINT16", "UINT32", "UINT64", "FP32",  "FP64",  "BYTES"};
static const Py_ssize_t SIZES[KINDS] = {1, 1, 2, 4, 8, 1, 2, 4, 8, 4, 8, 0};

typedef struct {
    PyObject_HEAD
    Inputs inputs;
    const char *output; /* the only one */
    Py_ssize_t output_size;
    PyObject *kept;
} Plan;

/* What a request says besides its tensors. */
typedef struct {
    const char *raw, *end;  /* binary tensors that are left */
    const char *id;         /* NULL: none came */
    Py_ssize_t id_size;
    int binary, its_binary; /* for all outputs, and for the one: -1 where it does not say */
} Asked;

/* One input, as far as it was read. */
typedef struct {
    Py_ssize_t i; /* -1: its name did not come yet */
    int typed, rank, filled;
    Py_ssize_t size[MOST_RANK], count, raw_bytes; /* raw_bytes: -1 where it came in JSON */
} Given;

/* ---- words -------------------------------------------------------------------------------- */

/* Reads text without escapes, up to *most* bytes of ASCII. */
static int read_plain(Text *t, const char **begun, Py_ssize_t *size, Py_ssize_t most)
{
    if (!take(t, '"'))
        return 0;
    *begun = t->at;
    while (t->at < t->end && *t->at >= 0x20 && *t->at < 0x7f && *t->at != '"' && *t->at != '\\')
        t->at++;
    *size = t->at - *begun;
    return *size <= most && is_at(t, '"') && t->at++;
}

static int read_flag(Text *t, int *flag)
{
    skip_space(t);
    if (*flag >= 0)
        return 0;
    *flag = read_word(t, "true");
    return *flag || read_word(t, "false");
}

static int read_size(Text *t, Py_ssize_t *size)
{
    int negative;
    uint64_t found;
    skip_space(t);
    t->at = parse_integer(t->at, t->end, &negative, &found);
    *size = (Py_ssize_t)found;
    return t->at && !negative && found <= MOST_ELEMENTS;
}

/* Passes '{"word":', where *word* ends with its quote. */
static int open_one(Text *t, const char *word)
{
    return take(t, '{') && take(t, '"') && read_word(t, word) && take(t, ':');
}

/* ---- one input ---------------------------------------------------------------------------- */

static int read_shape(Text *t, Given *given)
{
    given->count = 1;
    if (given->rank || !take(t, '['))
        return 0;
    do {
        Py_ssize_t size;
        if (given->rank == MOST_RANK || !read_size(t, &size) || !size ||
            given->count > MOST_ELEMENTS / size)
            return 0;
        given->size[given->rank++] = size;
        given->count *= size;
    } while (take(t, ','));
    return take(t, ']');
}

static Outcome read_data(const Inputs *inputs, Text *t, Column *columns, Given *given)
{
    if (given->i < 0 || given->filled++)
        return LEAVE;
    skip_space(t);
    return is_at(t, '[') ? read_value(t, (Kind)inputs->kind[given->i], &columns[given->i]) : LEAVE;
}

/* Takes one member of an input. */
static Outcome read_member(const Inputs *inputs, Text *t, Column *columns, Given *given)
{
    if (!take(t, '"'))
        return LEAVE;
    if (read_word(t, "name\"")) {
        const char *name;
        Py_ssize_t size;
        if (given->i >= 0 || !take(t, ':') || !read_plain(t, &name, &size, MOST_TOKEN))
            return LEAVE;
        for (Py_ssize_t i = 0; i < inputs->count && given->i < 0; i++)
            if (inputs->name_size[i] == size && !memcmp(inputs->name[i], name, (size_t)size))
                given->i = i;
        if (given->i < 0 || columns[given->i].seen)
            return LEAVE;
        columns[given->i].seen = 1;
        return OK;
    }
    if (read_word(t, "datatype\"")) {
        const char *name;
        Py_ssize_t size;
        if (given->i < 0 || given->typed++ || !take(t, ':') || !read_plain(t, &name, &size, 6))
            return LEAVE;
        const char *wanted = DATATYPES[inputs->kind[given->i]];
        return (Py_ssize_t)strlen(wanted) == size && !memcmp(wanted, name, (size_t)size) ? OK : LEAVE;
    }
    if (read_word(t, "shape\""))
        return take(t, ':') && read_shape(t, given) ? OK : LEAVE;
    if (read_word(t, "parameters\""))
        return !given->filled++ && take(t, ':') && open_one(t, "binary_data_size\"") &&
                       read_size(t, &given->raw_bytes) && take(t, '}')
                   ? OK
                   : LEAVE;
    return read_word(t, "data\"") && take(t, ':') ? read_data(inputs, t, columns, given) : LEAVE;
}

/* Copies the next binary tensor, aligned and the caller's to change. */
static Outcome take_raw(const Inputs *inputs, const Given *given, Asked *asked, Column *c)
{
    const Kind kind = (Kind)inputs->kind[given->i];
    const Py_ssize_t bytes = given->raw_bytes;
    if (kind == STRING || bytes != given->count * SIZES[kind] || bytes > asked->end - asked->raw)
        return LEAVE;
    for (Py_ssize_t k = 0; kind == BOOL && k < bytes; k++)
        if ((uint8_t)asked->raw[k] > 1)
            return LEAVE;
    if (!(c->data = malloc((size_t)bytes + 1))) {
        PyErr_NoMemory();
        return FAILED;
    }
    memcpy(c->data, asked->raw, (size_t)bytes);
    c->used = c->room = bytes;
    asked->raw += bytes;
    return OK;
}

/* Whether what came in JSON is flat, or nested as its shape says, and every float finite. */
static int is_shaped(const Column *c, Kind kind, const Given *given)
{
    int good = 1;
    if (c->leaf_depth == 1)
        good = c->size[0] == given->count;
    else
        for (int axis = 0; axis < given->rank; axis++)
            good &= c->leaf_depth == given->rank && c->size[axis] == given->size[axis];
    if (kind == FLOAT32)
        for (const float *at = (float *)c->data; (char *)at < c->data + c->used; at++)
            good &= isfinite(*at) != 0;
    if (kind == FLOAT64)
        for (const double *at = (double *)c->data; (char *)at < c->data + c->used; at++)
            good &= isfinite(*at) != 0;
    return good;
}

static Outcome read_given(const Inputs *inputs, Text *t, Column *columns, Asked *asked,
                          PyObject *tensors)
{
    Given given = {.i = -1, .raw_bytes = -1};
    if (!take(t, '{'))
        return LEAVE;
    do {
        const Outcome outcome = read_member(inputs, t, columns, &given);
        if (outcome != OK)
            return outcome;
    } while (take(t, ','));
    if (!take(t, '}') || given.i < 0 || !given.typed || !given.rank || !given.filled ||
        (inputs->rank[given.i] >= 0 && !fits(inputs, given.i, given.rank, given.size)))
        return LEAVE;
    Column *c = &columns[given.i];
    if (given.raw_bytes >= 0) {
        const Outcome outcome = take_raw(inputs, &given, asked, c);
        if (outcome != OK)
            return outcome;
    } else if (!is_shaped(c, (Kind)inputs->kind[given.i], &given)) {
        return LEAVE;
    }
    PyObject *tensor = tensor_of(inputs, given.i, c, given.rank, given.size);
    return put_tensor(inputs, given.i, tensors, tensor) ? OK : FAILED;
}

/* ---- the request -------------------------------------------------------------------------- */

/* Reads the list of outputs that are asked for: the only one there is. */
static int read_outputs(const Plan *plan, Text *t, Asked *asked)
{
    const char *name;
    Py_ssize_t size;
    if (!take(t, '[') || !open_one(t, "name\"") || !read_plain(t, &name, &size, MOST_TOKEN) ||
        size != plan->output_size || memcmp(name, plan->output, (size_t)size))
        return 0;
    if (take(t, ',') &&
        !(take(t, '"') && read_word(t, "parameters\"") && take(t, ':') &&
          open_one(t, "binary_data\"") && read_flag(t, &asked->its_binary) && take(t, '}')))
        return 0;
    return take(t, '}') && take(t, ']');
}

static Outcome read_request(const Plan *plan, Text *t, Column *columns, Asked *asked,
                            PyObject *tensors)
{
    int inputs = 0, outputs = 0;
    if (!take(t, '{'))
        return LEAVE;
    do {
        if (!take(t, '"'))
            return LEAVE;
        if (read_word(t, "inputs\"")) {
            if (inputs++ || !take(t, ':') || !take(t, '['))
                return LEAVE;
            do {
                const Outcome outcome = read_given(&plan->inputs, t, columns, asked, tensors);
                if (outcome != OK)
                    return outcome;
            } while (take(t, ','));
            if (!take(t, ']'))
                return LEAVE;
        } else if (read_word(t, "outputs\"")) {
            if (outputs++ || !take(t, ':') || !read_outputs(plan, t, asked))
                return LEAVE;
        } else if (read_word(t, "id\"")) {
            if (asked->id || !take(t, ':') || !read_plain(t, &asked->id, &asked->id_size, LONGEST_ID))
                return LEAVE;
        } else if (!(read_word(t, "parameters\"") && take(t, ':') &&
                     open_one(t, "binary_data_output\"") && read_flag(t, &asked->binary) &&
                     take(t, '}'))) {
            return LEAVE;
        }
    } while (take(t, ','));
    if (!take(t, '}') || !inputs || !is_complete(&plan->inputs, columns) || asked->raw != asked->end)
        return LEAVE;
    skip_space(t);
    return t->at == t->end ? OK : LEAVE;
}

/* ({name: tensor}, whether the output goes back in binary, more of the reply). The tensors are put
 * in the signature's order. */
static PyObject *found_of(const Inputs *inputs, const Asked *asked, PyObject *tensors)
{
    const int binary = asked->its_binary >= 0 ? asked->its_binary : asked->binary > 0;
    PyObject *ordered = PyDict_New();
    PyObject *more = PyBytes_FromString(""), *found = NULL;
    for (Py_ssize_t i = 0; ordered && i < inputs->count; i++) {
        PyObject *key = PyTuple_GetItem(inputs->keys, i);
        PyObject *tensor = PyDict_GetItemWithError(tensors, key);
        if (tensor && PyDict_SetItem(ordered, key, tensor) < 0)
            Py_CLEAR(ordered);
    }
    if (asked->id) {
        char text[LONGEST_ID + 8] = ",\"id\":\"";
        memcpy(text + 7, asked->id, (size_t)asked->id_size);
        text[7 + asked->id_size] = '"';
        Py_XDECREF(more);
        more = PyBytes_FromStringAndSize(text, asked->id_size + 8);
    }
    if (ordered && more)
        found = PyTuple_Pack(3, ordered, binary ? Py_True : Py_False, more);
    Py_XDECREF(ordered);
    Py_XDECREF(more);
    return found;
}

/* The length of the JSON, which a header tells where binary tensors follow; -1: leave it. */
static Py_ssize_t json_length(PyObject *given, Py_ssize_t size)
{
    char *text;
    Py_ssize_t digits, length = 0;
    if (PyBytes_AsStringAndSize(given, &text, &digits) < 0) {
        PyErr_Clear();
        return -1;
    }
    for (Py_ssize_t k = 0; k < digits; k++) {
        if (k == 10 || text[k] < '0' || text[k] > '9')
            return -1;
        length = length * 10 + (text[k] - '0');
    }
    return length > 0 && length <= size ? length : -1;
}

static PyObject *plan_decode(PyObject *self, PyObject *args)
{
    const Plan *plan = (const Plan *)self;
    PyObject *body, *length_in = NULL, *found = NULL;
    Py_buffer view;
    if (!PyArg_ParseTuple(args, "O|O", &body, &length_in) ||
        PyObject_GetBuffer(body, &view, PyBUF_SIMPLE) < 0)
        return NULL;
    const char *begun = view.buf;
    const Py_ssize_t length =
        length_in && length_in != Py_None ? json_length(length_in, view.len) : view.len;
    PyObject *tensors = PyDict_New();
    Column *columns = tensors ? new_columns(&plan->inputs) : NULL;
    Outcome outcome = !columns ? FAILED : length < 0 ? LEAVE : OK;
    const char *raw = begun + (length > 0 ? length : 0);
    Text text = {begun, raw};
    Asked asked = {.raw = raw, .end = begun + view.len, .binary = -1, .its_binary = -1};
    if (outcome == OK)
        outcome = read_request(plan, &text, columns, &asked, tensors);
    if (outcome == OK)
        found = found_of(&plan->inputs, &asked, tensors);
    free_columns(&plan->inputs, columns);
    Py_XDECREF(tensors);
    PyBuffer_Release(&view);
    return outcome == LEAVE ? Py_NewRef(Py_None) : found;
}

/* ---- Plan --------------------------------------------------------------------------------- */

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
    PyObject *inputs, *output;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!S", &PyTuple_Type, &inputs, &output))
        return NULL;
    Plan *plan = (Plan *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!plan)
        return NULL;
    plan->kept = Py_NewRef(args);
    plan->output = PyBytes_AsString(output);
    plan->output_size = PyBytes_Size(output);
    if (read_inputs(&plan->inputs, inputs) == 0)
        return (PyObject *)plan;
    Py_DECREF(plan);
    return NULL;
}

static PyMethodDef plan_methods[] = {
    {"decode", plan_decode, METH_VARARGS,
     "decode(body, length=None): ({name: tensor}, binary, more of the reply), or None: leave it"},
    {NULL, NULL, 0, NULL}};

static PyType_Slot plan_slots[] = {{Py_tp_new, plan_new},
                                   {Py_tp_dealloc, plan_dealloc},
                                   {Py_tp_methods, plan_methods},
                                   {0, NULL}};
static PyType_Spec plan_spec = {"martlet.native._infer.Plan", sizeof(Plan), 0, Py_TPFLAGS_DEFAULT,
                                plan_slots};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_infer", "Infer requests to columns.", -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__infer(void)
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
