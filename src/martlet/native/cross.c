/* Scores many candidates against what was computed once for their user: the cross part of a split
   ranker.

   Its pure twin is martlet/formats/package/cross.py, which says what is computed; the two differ only by the
   order in which float32 sums are added up. Candidates are scored in blocks of ROWS. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include "buffers.h"
#include "kernels.h"
#include "objects.h"

#define MOST_LAYERS 16
#define MOST_WIDTH 65536

typedef struct {
    Py_ssize_t inputs, outputs, padded;
    float *weights; /* [inputs, padded]; of the last layer [outputs, padded inputs] */
    float *bias;    /* [padded] */
    Activation activation;
    float slope; /* of LEAKY */
} Layer;

typedef struct {
    PyObject_HEAD
    Py_ssize_t hidden, dot, mixed, linear, width, outputs, stride;
    Activation first;
    float first_slope;
    int count;
    Layer layers[MOST_LAYERS];
    float *mixing; /* [mixed, padded hidden] */
    char *memory;  /* of all weights, as it was allocated */
} Plan;

/* Activates any count of numbers in place. */
static void finish(Activation activation, float slope, float *values, Py_ssize_t count)
{
    Py_ssize_t whole = count / PAD * PAD;
    float rest[PAD] = {0};
    chosen->activate(activation, slope, values, whole);
    memcpy(rest, values + whole, (count - whole) * sizeof(float));
    chosen->activate(activation, slope, rest, PAD);
    memcpy(values + whole, rest, (count - whole) * sizeof(float));
}

/* Adds the products of both sides, mixed, to the sums of up to ROWS candidates. */
static void mix(const Plan *plan, const float **users, const float **items, int rows, float *sums,
                float *products)
{
    Py_ssize_t at = plan->hidden + plan->dot;
    for (int r = 0; r < rows; r++)
        for (Py_ssize_t i = 0; i < plan->mixed; i++)
            products[r * plan->stride + i] = users[r][at + i] * items[r][at + i];
    Product product = {products, plan->mixing, sums, sums, plan->stride, plan->mixed,
                       padded(plan->hidden), plan->stride, plan->stride, plan->first == RELU};
    chosen->product(&product, ROWS);
}

/* Scores up to ROWS candidates, but for what follows the last sum; scratch holds two times ROWS rows
   of stride floats. */
static void score_block(const Plan *plan, const float **users, const float **items, int rows,
                        float *scratch, float *out)
{
    float *in = scratch, *next = scratch + ROWS * plan->stride;
    for (int r = 0; r < rows; r++) {
        float *row = in + r * plan->stride;
        chosen->add(users[r], items[r], row, plan->hidden, plan->first == RELU && !plan->mixed);
    }
    if (plan->mixed)
        mix(plan, users, items, rows, in, next);
    for (int r = 0; r < rows && plan->first > RELU; r++)
        chosen->activate(plan->first, plan->first_slope, in + r * plan->stride,
                         padded(plan->hidden));
    for (int k = 0; k + 1 < plan->count; k++) {
        const Layer *layer = &plan->layers[k];
        Product product = {in, layer->weights, layer->bias, next, plan->stride, layer->inputs,
                           layer->padded, 0, plan->stride, layer->activation == RELU};
        chosen->product(&product, ROWS);
        for (int r = 0; r < ROWS && layer->activation > RELU; r++)
            chosen->activate(layer->activation, layer->slope, next + r * plan->stride,
                             layer->padded);
        float *swapped = in;
        in = next;
        next = swapped;
    }
    for (int r = 0; r < rows; r++) {
        float extra = 0.0f;
        if (plan->dot)
            extra = chosen->dot(users[r] + plan->hidden, items[r] + plan->hidden, plan->dot);
        if (plan->linear)
            extra += users[r][plan->width - 1] + items[r][plan->width - 1];
        if (!plan->count) {
            out[r] = extra;
            continue;
        }
        const Layer *last = &plan->layers[plan->count - 1];
        for (Py_ssize_t o = 0; o < last->outputs; o++) {
            /* Behind the inputs lies what other products left there. */
            const float *weights = last->weights + o * padded(last->inputs);
            float sum = chosen->dot(in + r * plan->stride, weights, last->inputs);
            out[r * plan->outputs + o] = sum + last->bias[o] + extra;
        }
    }
}

static PyObject *plan_score(PyObject *self, PyObject *args)
{
    Plan *plan = (Plan *)self;
    PyObject *users_in, *of_in, *items_in, *rows_in, *out_in;
    if (!PyArg_ParseTuple(args, "OOOOO", &users_in, &of_in, &items_in, &rows_in, &out_in))
        return NULL;
    Py_buffer users, items, of, rows, out;
    int held = 0;
    float *memory = NULL;
    PyObject *answer = NULL;
    Py_buffer *holding[5];
    Py_ssize_t count = 0, given = 0;

    if (get_floats(users_in, &users, 0, "users") < 0)
        goto done;
    holding[held++] = &users;
    if (get_floats(items_in, &items, 0, "items") < 0)
        goto done;
    holding[held++] = &items;
    if (users.ndim != 2 || items.ndim != 2 || users.shape[1] != plan->width ||
        items.shape[1] < plan->width || !users.shape[0] || !items.shape[0]) {
        PyErr_Format(PyExc_ValueError, "users and items are rows of %zd floats, one at least",
                     plan->width);
        goto done;
    }
    Py_ssize_t user_count = users.shape[0], item_count = items.shape[0], item_width = items.shape[1];
    if (get_rows(rows_in, &rows, item_count, &count, "rows") < 0)
        goto done;
    holding[held++] = &rows;
    if (of_in != Py_None) {
        if (get_rows(of_in, &of, user_count, &given, "of_user") < 0)
            goto done;
        holding[held++] = &of;
        if (given != count) {
            PyErr_SetString(PyExc_ValueError, "of_user and rows differ in length");
            goto done;
        }
    } else if (user_count != 1) {
        PyErr_SetString(PyExc_ValueError, "several users came, and of_user does not say whose row");
        goto done;
    }
    if (get_floats(out_in, &out, PyBUF_WRITABLE, "out") < 0)
        goto done;
    holding[held++] = &out;
    if (out.len != count * plan->outputs * (Py_ssize_t)sizeof(float)) {
        PyErr_SetString(PyExc_ValueError, "out has another size than the scores");
        goto done;
    }
    memory = PyMem_Calloc(1, 2 * ROWS * (size_t)plan->stride * sizeof(float) + ALIGNMENT);
    if (!memory) {
        PyErr_NoMemory();
        goto done;
    }
    float *scratch = aligned(memory);
    const int64_t *wanted = rows.buf, *whose = of_in == Py_None ? NULL : of.buf;
    float *scores = out.buf;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t at = 0; at < count; at += ROWS) {
        int block = count - at < ROWS ? (int)(count - at) : ROWS;
        const float *user[ROWS], *item[ROWS];
        for (int r = 0; r < block; r++) {
            user[r] = row_of(&users, user_count, plan->width, whose ? whose[at + r] : 0);
            item[r] = row_of(&items, item_count, item_width, wanted[at + r]);
        }
        score_block(plan, user, item, block, scratch, scores + at * plan->outputs);
    }
    const Layer *last = plan->count ? &plan->layers[plan->count - 1] : NULL;
    finish(last ? last->activation : plan->first, last ? last->slope : plan->first_slope, scores,
           count * plan->outputs);
    Py_END_ALLOW_THREADS
    answer = Py_None;
    Py_INCREF(answer);
done:
    PyMem_Free(memory);
    while (held)
        PyBuffer_Release(holding[--held]);
    return answer;
}

/* Copies one layer: (weights float32 [inputs, outputs], bias float32 [outputs], activation, slope). */
static int read_layer(PyObject *given, Layer *layer, Py_ssize_t inputs, Py_ssize_t outputs, int last,
                      char **free)
{
    PyObject *weights_in, *bias_in;
    int activation;
    Py_buffer weights, bias;
    if (!PyArg_ParseTuple(given, "OOif", &weights_in, &bias_in, &activation, &layer->slope))
        return -1;
    if (get_floats(bias_in, &bias, 0, "a bias") < 0)
        return -1;
    if (get_floats(weights_in, &weights, 0, "weights") < 0) {
        PyBuffer_Release(&bias);
        return -1;
    }
    int wrong = activation < 0 || activation >= ACTIVATIONS;
    layer->inputs = inputs;
    layer->outputs = outputs;
    layer->padded = padded(layer->outputs);
    layer->activation = (Activation)activation;
    wrong = wrong || bias.len != outputs * (Py_ssize_t)sizeof(float) ||
            weights.len != inputs * bias.len;
    if (wrong)
        PyErr_SetString(PyExc_ValueError, "a layer's weights, bias or activation do not fit");
    else {
        const float *from = weights.buf;
        layer->weights = (float *)*free;
        *free += (last ? padded(inputs) * layer->outputs : inputs * layer->padded) * sizeof(float);
        layer->bias = (float *)*free;
        *free += layer->padded * sizeof(float);
        memcpy(layer->bias, bias.buf, bias.len);
        for (Py_ssize_t i = 0; i < inputs; i++)
            for (Py_ssize_t o = 0; o < layer->outputs; o++)
                layer->weights[last ? o * padded(inputs) + i : i * layer->padded + o] =
                    from[i * layer->outputs + o];
    }
    PyBuffer_Release(&weights);
    PyBuffer_Release(&bias);
    return wrong ? -1 : 0;
}

static PyObject *plan_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    Py_ssize_t hidden, dot;
    int linear, first;
    float slope;
    PyObject *layers, *mixing_in;
    Py_buffer mixing;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "nnpifO!O", &hidden, &dot, &linear, &first, &slope, &PyTuple_Type,
                          &layers, &mixing_in))
        return NULL;
    Py_ssize_t mixed = PyObject_Length(mixing_in);
    if (mixed < 0)
        return NULL;
    Py_ssize_t count = PyTuple_Size(layers), inputs = hidden, widest = padded(hidden), bytes = 0;
    Py_ssize_t sizes[MOST_LAYERS];
    if (hidden < 0 || hidden > MOST_WIDTH || dot < 0 || dot > MOST_WIDTH || mixed > MOST_WIDTH ||
        first < 0 || first >= ACTIVATIONS || count > MOST_LAYERS || (count == 0) != (hidden == 0) ||
        hidden + dot + linear == 0) {
        PyErr_SetString(PyExc_ValueError, "the sizes of a cross part do not fit together");
        return NULL;
    }
    for (Py_ssize_t k = 0; k < count; k++) {
        PyObject *layer = PyTuple_GetItem(layers, k);
        PyObject *bias = PyTuple_Check(layer) && PyTuple_Size(layer) == 4 ? PyTuple_GetItem(layer, 1)
                                                                        : NULL;
        Py_ssize_t outputs = bias ? PyObject_Length(bias) : 0;
        if (outputs < 1 || outputs > MOST_WIDTH) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "a layer is (weights, bias, activation, slope)");
            return NULL;
        }
        bytes += (padded(inputs) + 1) * padded(outputs) * (Py_ssize_t)sizeof(float);
        if (k + 1 < count && padded(outputs) > widest)
            widest = padded(outputs);
        inputs = sizes[k] = outputs;
    }
    bytes += mixed * padded(hidden) * (Py_ssize_t)sizeof(float);
    widest = padded(mixed) > widest ? padded(mixed) : widest;
    Plan *plan = new_object(type);
    if (!plan)
        return NULL;
    plan->memory = PyMem_Calloc(1, bytes + ALIGNMENT);
    if (!plan->memory) {
        Py_DECREF(plan);
        return PyErr_NoMemory();
    }
    char *free = (char *)aligned(plan->memory);
    plan->hidden = hidden;
    plan->dot = dot;
    plan->linear = linear;
    plan->mixed = mixed;
    plan->width = hidden + dot + mixed + linear;
    plan->first = (Activation)first;
    plan->first_slope = slope;
    plan->stride = widest ? widest : PAD;
    inputs = hidden;
    for (Py_ssize_t k = 0; k < count; k++) {
        if (read_layer(PyTuple_GetItem(layers, k), &plan->layers[k], inputs, sizes[k],
                       k + 1 == count, &free) < 0) {
            Py_DECREF(plan);
            return NULL;
        }
        inputs = sizes[k];
        plan->count++;
    }
    plan->outputs = count ? inputs : 1;
    plan->mixing = (float *)free;
    if (get_floats(mixing_in, &mixing, 0, "mixing") < 0) {
        Py_DECREF(plan);
        return NULL;
    }
    int wrong = mixing.ndim != 2 || mixing.shape[0] != mixed || mixing.shape[1] != hidden;
    for (Py_ssize_t i = 0; i < mixed && !wrong; i++)
        memcpy(plan->mixing + i * padded(hidden), (float *)mixing.buf + i * hidden,
               hidden * sizeof(float));
    PyBuffer_Release(&mixing);
    if (wrong) {
        PyErr_SetString(PyExc_ValueError, "mixing is of another shape than the sums");
        Py_DECREF(plan);
        return NULL;
    }
    return (PyObject *)plan;
}

static void plan_dealloc(PyObject *self)
{
    PyMem_Free(((Plan *)self)->memory);
    free_object(self);
}

static PyMethodDef plan_methods[] = {
    {"score", plan_score, METH_VARARGS,
     "score(users, of_user, items, rows, out): fill out, float32 [len(rows), outputs]."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot plan_slots[] = {
    {Py_tp_new, plan_new},
    {Py_tp_dealloc, plan_dealloc},
    {Py_tp_methods, plan_methods},
    {Py_tp_doc, "Plan(hidden, dot, linear, first, slope, layers, mixing): a cross part's weights."},
    {0, NULL},
};

static PyType_Spec plan_spec = {
    "martlet.native._cross.Plan", sizeof(Plan), 0, Py_TPFLAGS_DEFAULT, plan_slots,
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_cross", NULL, -1, kernel_methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__cross(void)
{
    choose(NULL);
    return module_with(&module, &plan_spec);
}
