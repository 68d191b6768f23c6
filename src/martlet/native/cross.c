/* Scores many candidates against what was computed once for their user: the cross part of a split
   ranker.

   Its pure twin is martlet/formats/cross.py, which says what is computed. A candidate's sums are
   made in blocks of ROWS by a kernel for the machine at hand, found when the module is loaded:
   AVX-512, AVX2, or four floats at a time. They differ from the twin's only by the order in which
   float32 sums are added up. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define ROWS 6
#define PAD 16
#define ALIGNMENT 64
#define MOST_LAYERS 16
#define MOST_WIDTH 65536

typedef enum { IDENTITY, RELU, SIGMOID, TANH, LEAKY, ACTIVATIONS } Activation;

typedef struct {
    Py_ssize_t inputs, outputs, padded;
    float *weights; /* [inputs, padded]; of the last layer [outputs, padded inputs] */
    float *bias;    /* [padded] */
    Activation activation;
    float slope; /* of LEAKY */
} Layer;

typedef struct {
    void (*dense)(const float *in, Py_ssize_t stride, const Layer *layer, float *out, int relu);
    float (*dot)(const float *a, const float *b, Py_ssize_t count);
    void (*add)(const float *a, const float *b, float *out, Py_ssize_t count, int relu);
} Kernel;

#if defined(__x86_64__)
#define NAME(x) x##_avx512
#define TARGET __attribute__((target("avx512f")))
#define WIDTH 16
#define VEC __m512
#define COLUMNS 4
#define LOAD _mm512_loadu_ps
#define SOME(p, n) _mm512_maskz_loadu_ps((__mmask16)((1u << (n)) - 1), p)
#define STORE _mm512_storeu_ps
#define SET1 _mm512_set1_ps
#define ADD _mm512_add_ps
#define FMA _mm512_fmadd_ps
#define MAX _mm512_max_ps
#define TOTAL _mm512_reduce_add_ps
#include "cross_kernel.h"

static const int32_t first_few[16] = {-1, -1, -1, -1, -1, -1, -1, -1};

__attribute__((target("avx2,fma"))) static inline float total_avx2(__m256 sums)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(sums), _mm256_extractf128_ps(sums, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

#define NAME(x) x##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define WIDTH 8
#define VEC __m256
#define COLUMNS 2
#define LOAD _mm256_loadu_ps
#define SOME(p, n) _mm256_maskload_ps(p, _mm256_loadu_si256((const __m256i *)(first_few + 8 - (n))))
#define STORE _mm256_storeu_ps
#define SET1 _mm256_set1_ps
#define ADD _mm256_add_ps
#define FMA _mm256_fmadd_ps
#define MAX _mm256_max_ps
#define TOTAL total_avx2
#include "cross_kernel.h"
#endif

typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));

static inline Four splat(float value)
{
    return (Four){value, value, value, value};
}

static inline Four larger(Four a, Four b)
{
    for (int k = 0; k < 4; k++)
        b[k] = a[k] > b[k] ? a[k] : b[k];
    return b;
}

static inline Four few(const float *from, Py_ssize_t count)
{
    Four found = splat(0.0f);
    for (int k = 0; k < count; k++)
        found[k] = from[k];
    return found;
}

#define NAME(x) x##_plain
#define TARGET
#define WIDTH 4
#define VEC Four
#define COLUMNS 4
#define LOAD(p) (*(const Four *)(p))
#define SOME few
#define STORE(p, v) (*(Four *)(p) = (v))
#define SET1 splat
#define ADD(a, b) ((a) + (b))
#define FMA(a, b, c) ((a) * (b) + (c))
#define MAX larger
#define TOTAL(v) (((v)[0] + (v)[1]) + ((v)[2] + (v)[3]))
#include "cross_kernel.h"

static const Kernel *chosen = &kernel_plain;
static const char *chosen_name = "plain";

static int choose(const char *name)
{
#if defined(__x86_64__)
    if ((!name || !strcmp(name, "avx512")) && __builtin_cpu_supports("avx512f")) {
        chosen = &kernel_avx512;
        chosen_name = "avx512";
        return 0;
    }
    if ((!name || !strcmp(name, "avx2")) && __builtin_cpu_supports("avx2") &&
        __builtin_cpu_supports("fma")) {
        chosen = &kernel_avx2;
        chosen_name = "avx2";
        return 0;
    }
#endif
    if (name && strcmp(name, "plain"))
        return -1;
    chosen = &kernel_plain;
    chosen_name = "plain";
    return 0;
}

typedef struct {
    PyObject_HEAD
    Py_ssize_t hidden, dot, linear, width, outputs, stride;
    Activation first;
    float first_slope;
    int count;
    Layer layers[MOST_LAYERS];
    char *memory; /* of all weights, as it was allocated */
} Plan;

static Py_ssize_t padded(Py_ssize_t count)
{
    return (count + PAD - 1) / PAD * PAD;
}

static float activated(Activation activation, float slope, float value)
{
    switch (activation) {
    case RELU:
        return value < 0.0f ? 0.0f : value;
    case SIGMOID:
        return 1.0f / (1.0f + expf(-value));
    case TANH:
        return tanhf(value);
    case LEAKY:
        return value < 0.0f ? slope * value : value;
    default:
        return value;
    }
}

/* What follows a sum, but for relu, which the kernel has done. */
static void activate(Activation activation, float slope, float *rows, Py_ssize_t stride,
                     Py_ssize_t padded)
{
    if (activation > RELU)
        for (int r = 0; r < ROWS; r++)
            for (Py_ssize_t i = 0; i < padded; i++)
                rows[r * stride + i] = activated(activation, slope, rows[r * stride + i]);
}

/* Scores up to ROWS candidates; scratch holds two times ROWS rows of stride floats. */
static void score_block(const Plan *plan, const float **users, const float **items, int rows,
                        float *scratch, float *out)
{
    float *in = scratch, *next = scratch + ROWS * plan->stride;
    for (int r = 0; r < rows; r++) {
        float *row = in + r * plan->stride;
        chosen->add(users[r], items[r], row, plan->hidden, plan->first == RELU);
        if (plan->first > RELU)
            for (Py_ssize_t i = 0; i < plan->hidden; i++)
                row[i] = activated(plan->first, plan->first_slope, row[i]);
    }
    for (int k = 0; k + 1 < plan->count; k++) {
        const Layer *layer = &plan->layers[k];
        chosen->dense(in, plan->stride, layer, next, layer->activation == RELU);
        activate(layer->activation, layer->slope, next, plan->stride, layer->padded);
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
            out[r] = activated(plan->first, plan->first_slope, extra);
            continue;
        }
        const Layer *last = &plan->layers[plan->count - 1];
        for (Py_ssize_t o = 0; o < last->outputs; o++) {
            Py_ssize_t inputs = padded(last->inputs);
            float sum = chosen->dot(in + r * plan->stride, last->weights + o * inputs, inputs);
            out[r * plan->outputs + o] =
                activated(last->activation, last->slope, sum + last->bias[o] + extra);
        }
    }
}

static int get_floats(PyObject *object, Py_buffer *buffer, int flags, const char *what)
{
    if (PyObject_GetBuffer(object, buffer, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | flags) < 0)
        return -1;
    if (!buffer->format || strcmp(buffer->format, "f")) {
        PyErr_Format(PyExc_ValueError, "%s must be float32", what);
        PyBuffer_Release(buffer);
        return -1;
    }
    return 0;
}

static int get_rows(PyObject *object, Py_buffer *buffer, Py_ssize_t below, Py_ssize_t *count,
                    const char *what)
{
    if (PyObject_GetBuffer(object, buffer, PyBUF_C_CONTIGUOUS) < 0)
        return -1;
    if (buffer->itemsize != 8) {
        PyErr_Format(PyExc_ValueError, "%s must be int64", what);
        PyBuffer_Release(buffer);
        return -1;
    }
    *count = buffer->len / 8;
    const int64_t *rows = buffer->buf;
    for (Py_ssize_t i = 0; i < *count; i++)
        if (rows[i] < -1 || rows[i] >= below) {
            PyErr_Format(PyExc_IndexError, "%s[%zd] is %lld; there are %zd rows", what, i,
                         (long long)rows[i], below);
            PyBuffer_Release(buffer);
            return -1;
        }
    return 0;
}

static const float *row_of(const Py_buffer *table, Py_ssize_t count, Py_ssize_t width, int64_t row)
{
    return (const float *)table->buf + (row < 0 ? count - 1 : row) * width;
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
    Py_ssize_t bytes = plan->width * (Py_ssize_t)sizeof(float);
    Py_ssize_t user_count = users.len / bytes, item_count = items.len / bytes;
    if (users.len % bytes || items.len % bytes || !user_count || !item_count) {
        PyErr_Format(PyExc_ValueError, "users and items are rows of %zd floats, one at least",
                     plan->width);
        goto done;
    }
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
    float *scratch = (float *)(((uintptr_t)memory + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1));
    const int64_t *wanted = rows.buf, *whose = of_in == Py_None ? NULL : of.buf;
    float *scores = out.buf;
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t at = 0; at < count; at += ROWS) {
        int block = count - at < ROWS ? (int)(count - at) : ROWS;
        const float *user[ROWS], *item[ROWS];
        for (int r = 0; r < block; r++) {
            user[r] = row_of(&users, user_count, plan->width, whose ? whose[at + r] : 0);
            item[r] = row_of(&items, item_count, plan->width, wanted[at + r]);
        }
        score_block(plan, user, item, block, scratch, scores + at * plan->outputs);
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
    PyObject *layers;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "nnpifO!", &hidden, &dot, &linear, &first, &slope, &PyTuple_Type,
                          &layers))
        return NULL;
    Py_ssize_t count = PyTuple_Size(layers), inputs = hidden, widest = padded(hidden), bytes = 0;
    Py_ssize_t sizes[MOST_LAYERS];
    if (hidden < 0 || hidden > MOST_WIDTH || dot < 0 || dot > MOST_WIDTH || first < 0 ||
        first >= ACTIVATIONS || count > MOST_LAYERS || (count == 0) != (hidden == 0) ||
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
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Plan *plan = (Plan *)allocate(type, 0);
    if (!plan)
        return NULL;
    plan->memory = PyMem_Calloc(1, bytes + ALIGNMENT);
    if (!plan->memory) {
        Py_DECREF(plan);
        return PyErr_NoMemory();
    }
    char *free = (char *)(((uintptr_t)plan->memory + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1));
    plan->hidden = hidden;
    plan->dot = dot;
    plan->linear = linear;
    plan->width = hidden + dot + linear;
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
    return (PyObject *)plan;
}

static void plan_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyMem_Free(((Plan *)self)->memory);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release(self);
    Py_DECREF(type);
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
    {Py_tp_doc, "Plan(hidden, dot, linear, first, slope, layers): a cross part's weights."},
    {0, NULL},
};

static PyType_Spec plan_spec = {
    "martlet.native._cross.Plan", sizeof(Plan), 0, Py_TPFLAGS_DEFAULT, plan_slots,
};

static PyObject *cross_use(PyObject *module, PyObject *args)
{
    const char *name = NULL;
    (void)module;
    if (!PyArg_ParseTuple(args, "|z", &name))
        return NULL;
    if (choose(name) < 0) {
        PyErr_Format(PyExc_ValueError, "this machine has no kernel %s", name);
        return NULL;
    }
    return PyUnicode_FromString(chosen_name);
}

static PyMethodDef module_methods[] = {
    {"use", cross_use, METH_VARARGS,
     "use(name=None): compute by this kernel from now on (None: the machine's best); its name."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_cross", NULL, -1, module_methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__cross(void)
{
    choose(NULL);
    PyObject *made = PyModule_Create(&module), *type = PyType_FromSpec(&plan_spec);
    if (!made || !type || PyModule_AddObjectRef(made, "Plan", type) < 0) {
        Py_XDECREF(made);
        Py_XDECREF(type);
        return NULL;
    }
    Py_DECREF(type);
    return made;
}
