/* What a candidate makes of its user's history: attention, the part of a split ranker that runs for
   every pair of a candidate and an item of the history. attention.h has the arithmetic; its pure twin
   is martlet/formats/package/attention.py, which says what is computed. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include "attention.h"
#include "buffers.h"
#include "objects.h"

#define MOST_WIDTH 65536

static int get_tensor(PyObject *object, Py_buffer *buffer, int rank, int flags, const char *what)
{
    if (get_floats(object, buffer, flags, what) < 0)
        return -1;
    if (buffer->ndim != rank) {
        PyErr_Format(PyExc_ValueError, "%s must be of rank %d", what, rank);
        PyBuffer_Release(buffer);
        return -1;
    }
    return 0;
}

static PyObject *unit_add(PyObject *self, PyObject *args)
{
    Unit *unit = (Unit *)self;
    PyObject *shares_in, *history_in, *items_in, *rows_in, *of_in;
    Py_ssize_t at;
    if (!PyArg_ParseTuple(args, "OOOnOO", &shares_in, &history_in, &items_in, &at, &rows_in, &of_in))
        return NULL;
    Py_buffer shares, given, items, rows, of, *holding[5];
    int held = 0;
    float *memory = NULL;
    PyObject *answer = NULL;
    Py_ssize_t count = 0, others = 0;
    History history;
    Scratch scratch;

    if (get_tensor(shares_in, &shares, 2, PyBUF_WRITABLE, "shares") < 0)
        goto done;
    holding[held++] = &shares;
    if (get_tensor(history_in, &given, 3, 0, "history") < 0)
        goto done;
    holding[held++] = &given;
    if (get_tensor(items_in, &items, 2, 0, "items") < 0)
        goto done;
    holding[held++] = &items;
    Py_ssize_t width = shares.shape[1], users = given.shape[0], positions = given.shape[1];
    Py_ssize_t item_count = items.shape[0], item_width = items.shape[1];
    Py_ssize_t values = unit->out ? unit->values : width;
    if (given.shape[2] != before_values(unit) + values || (unit->out && unit->width != width) || at < 0 ||
        item_width - at < unit->query + unit->hidden || !users || !item_count) {
        PyErr_SetString(PyExc_ValueError, "shares, history and items are not those of this unit");
        goto done;
    }
    if (get_rows(rows_in, &rows, item_count, &count, "rows") < 0)
        goto done;
    holding[held++] = &rows;
    if (of_in != Py_None) {
        if (get_rows(of_in, &of, users, &others, "of_user") < 0)
            goto done;
        holding[held++] = &of;
    }
    if (shares.shape[0] != count || (of_in == Py_None ? users != 1 : others != count)) {
        PyErr_SetString(PyExc_ValueError, "shares, rows and of_user differ in length");
        goto done;
    }
    Py_ssize_t floats = lay_out(unit, positions, values, width, NULL, &history, &scratch);
    memory = PyMem_Calloc(1, floats * sizeof(float) + ALIGNMENT);
    if (!memory) {
        PyErr_NoMemory();
        goto done;
    }
    lay_out(unit, positions, values, width, aligned(memory), &history, &scratch);
    const int64_t *wanted = rows.buf, *whose = of_in == Py_None ? NULL : of.buf;
    Py_BEGIN_ALLOW_THREADS
    int64_t user = -2;
    for (Py_ssize_t from = 0; from < count;) {
        const float *item[ROWS];
        int block = 0;
        int64_t own = whose ? whose[from] : 0;
        if (own != user)
            read_history(unit, row_of(&given, users, positions * given.shape[2], own), positions,
                         values, &history);
        user = own;
        do {
            item[block] = row_of(&items, item_count, item_width, wanted[from + block]) + at;
            block++;
        } while (block < ROWS && from + block < count && (!whose || whose[from + block] == own));
        if (history.used)
            attend(unit, &history, item, block, (float *)shares.buf + from * width, width, &scratch);
        from += block;
    }
    Py_END_ALLOW_THREADS
    answer = Py_None;
    Py_INCREF(answer);
done:
    PyMem_Free(memory);
    while (held)
        PyBuffer_Release(holding[--held]);
    return answer;
}

/* Copies one layer: (weights float32 [outputs, inputs + 1], the bias last; activation; slope). */
static int read_layer(PyObject *given, Layer *layer, Py_ssize_t inputs, char **free)
{
    PyObject *weights_in;
    int activation;
    Py_buffer weights;
    if (!PyArg_ParseTuple(given, "Oif", &weights_in, &activation, &layer->slope))
        return -1;
    if (get_tensor(weights_in, &weights, 2, 0, "weights") < 0)
        return -1;
    int wrong = activation < 0 || activation >= ACTIVATIONS || weights.shape[1] != inputs + 1 ||
                weights.shape[0] != layer->outputs;
    if (wrong)
        PyErr_SetString(PyExc_ValueError, "a layer's weights or activation do not fit");
    layer->inputs = inputs;
    layer->activation = (Activation)activation;
    layer->stride = padded(inputs + 1);
    layer->weights = (float *)*free;
    for (Py_ssize_t o = 0; o < layer->outputs && !wrong; o++)
        memcpy(layer->weights + o * layer->stride, (float *)weights.buf + o * (inputs + 1),
               (inputs + 1) * sizeof(float));
    *free += in_rows(layer->outputs) * layer->stride * sizeof(float);
    PyBuffer_Release(&weights);
    return wrong ? -1 : 0;
}

static Py_ssize_t outputs_of(PyObject *layer)
{
    PyObject *weights = PyTuple_Check(layer) && PyTuple_Size(layer) == 3 ? PyTuple_GetItem(layer, 0)
                                                                       : NULL;
    return weights ? PyObject_Length(weights) : 0;
}

static PyObject *unit_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Py_ssize_t query, bytes = 0, widest = 1;
    int softmax, gated;
    PyObject *layers, *out_in;
    Py_buffer out;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "nO!ppO", &query, &PyTuple_Type, &layers, &softmax, &gated, &out_in))
        return NULL;
    Py_ssize_t count = PyTuple_Size(layers), inputs = query, outputs = 0;
    int wrong = query < 0 || query > MOST_WIDTH || count < 1 || count > MOST_LAYERS;
    for (Py_ssize_t k = 0; k < count && !wrong; k++, inputs = outputs) {
        outputs = outputs_of(PyTuple_GetItem(layers, k));
        wrong = outputs < 1 || outputs > MOST_WIDTH;
        bytes += in_rows(outputs) * padded(inputs + 1) * (Py_ssize_t)sizeof(float);
        widest = outputs > widest ? outputs : widest;
    }
    if (wrong || outputs != 1) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_ValueError, "a unit's layers end in one number");
        return NULL;
    }
    int narrow = out_in != Py_None;
    if (narrow && get_tensor(out_in, &out, 2, 0, "out") < 0)
        return NULL;
    Unit *unit = new_object(type);
    Py_ssize_t own = narrow ? out.shape[0] * padded(out.shape[1]) * (Py_ssize_t)sizeof(float) : 0;
    if (unit)
        unit->memory = PyMem_Calloc(1, own + bytes + ALIGNMENT);
    if (unit && unit->memory && narrow) {
        unit->out = aligned(unit->memory);
        unit->values = out.shape[0];
        unit->width = out.shape[1];
        for (Py_ssize_t i = 0; i < unit->values; i++)
            memcpy(unit->out + i * padded(unit->width), (float *)out.buf + i * unit->width,
                   unit->width * sizeof(float));
    }
    if (narrow)
        PyBuffer_Release(&out);
    if (!unit)
        return NULL;
    if (!unit->memory) {
        Py_DECREF(unit);
        return PyErr_NoMemory();
    }
    char *free = (char *)aligned(unit->memory) + own;
    unit->query = inputs = query;
    unit->softmax = softmax;
    unit->gated = gated;
    unit->widest = widest;
    for (Py_ssize_t k = 0; k < count; k++) {
        Layer *layer = &unit->layers[k];
        layer->outputs = outputs_of(PyTuple_GetItem(layers, k));
        if (layer->outputs < 1 || read_layer(PyTuple_GetItem(layers, k), layer, inputs, &free) < 0) {
            Py_DECREF(unit);
            return NULL;
        }
        inputs = layer->outputs;
        unit->count++;
    }
    unit->hidden = unit->layers[0].outputs;
    unit->stride = unit->layers[0].stride;
    return (PyObject *)unit;
}

static void unit_dealloc(PyObject *self)
{
    PyMem_Free(((Unit *)self)->memory);
    free_object(self);
}

static PyMethodDef unit_methods[] = {
    {"add", unit_add, METH_VARARGS,
     "add(shares, history, items, at, rows, of_user): add what each candidate makes of the history "
     "to its row of shares, float32 [len(rows), width]."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot unit_slots[] = {
    {Py_tp_new, unit_new},
    {Py_tp_dealloc, unit_dealloc},
    {Py_tp_methods, unit_methods},
    {Py_tp_doc, "Unit(query, layers, softmax, gated, out): an attention unit's weights."},
    {0, NULL},
};

static PyType_Spec unit_spec = {
    "martlet.native._attention.Unit", sizeof(Unit), 0, Py_TPFLAGS_DEFAULT, unit_slots,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_attention", NULL, -1, kernel_methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__attention(void)
{
    choose(NULL);
    return module_with(&module, &unit_spec);
}
