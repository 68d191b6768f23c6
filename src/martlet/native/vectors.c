/* The decisions of a support vector machine, as libsvm computes them, for eight vectors at a time.

   libsvm asks BLAS for the dot product of a row and each support vector, one call after the other,
   and in each call most of the time is waiting for one sum. Here eight vectors are added side by
   side, each in the order in which OpenBLAS adds: a number of partial sums by blocks, folded, then
   what is left one by one. Whether that is the order of the BLAS at hand, martlet.formats.sklearn.
   vectors finds out by comparing answers; without this part libsvm itself answers. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "arrays.h"
#include "objects.h"

#define LANES 8 /* support vectors side by side */
#define ROWS 8  /* rows that are asked of a group of vectors while it is at hand */
#define MOST_DEGREE 64

enum kernel { LINEAR, POLY, RBF, SIGMOID, KERNELS };
enum order { HASWELL, SKYLAKEX, ORDERS }; /* of OpenBLAS's ddot */

typedef struct {
    PyObject_HEAD
    Py_ssize_t features, vectors, groups, classes, pairs;
    enum kernel kernel;
    enum order order;
    int degree;
    double gamma, coef0;
    double *group;     /* [groups, features, LANES] */
    double *weights;   /* [classes - 1 or 1, vectors] */
    double *intercept; /* [pairs] */
    Py_ssize_t *start; /* [classes + 1]: where each class's vectors begin */
} Machine;

/* libsvm's powi. */
static double power(double base, int times)
{
    double found = 1.0;
    for (; times > 0; times /= 2, base *= base)
        if (times % 2 == 1)
            found *= base;
    return found;
}

static double kernel_of(const Machine *m, double dot)
{
    switch (m->kernel) {
    case POLY:
        return power(m->gamma * dot + m->coef0, m->degree);
    case RBF:
        return exp(-m->gamma * dot);
    case SIGMOID:
        return tanh(m->gamma * dot + m->coef0);
    default:
        return dot;
    }
}

static void add_weighted(const double *weights, Py_ssize_t from, Py_ssize_t to, const double *values,
                         int count, double *sums)
{
    if (count == 1)
        for (Py_ssize_t k = from; k < to; k++)
            sums[0] += weights[k] * values[k * ROWS];
    else
        for (Py_ssize_t k = from; k < to; k++)
            for (int r = 0; r < ROWS; r++)
                sums[r] += weights[k] * values[k * ROWS + r];
}

/* From the dot products of up to ROWS rows to their decisions: of each pair of classes, or one. */
static void finish(const Machine *m, int count, double *values, double *out)
{
    for (Py_ssize_t k = 0; k < m->vectors; k++)
        for (int r = 0; r < count; r++)
            values[k * ROWS + r] = kernel_of(m, values[k * ROWS + r]);
    if (m->classes == 1) {
        double sums[ROWS] = {0.0};
        add_weighted(m->weights, 0, m->vectors, values, count, sums);
        for (int r = 0; r < count; r++)
            out[r] = sums[r] + m->intercept[0];
        return;
    }
    Py_ssize_t pair = 0;
    for (Py_ssize_t i = 0; i < m->classes; i++)
        for (Py_ssize_t j = i + 1; j < m->classes; j++, pair++) {
            const double *of_i = m->weights + (j - 1) * m->vectors;
            const double *of_j = m->weights + i * m->vectors;
            double sums[ROWS] = {0.0};
            add_weighted(of_i, m->start[i], m->start[i + 1], values, count, sums);
            add_weighted(of_j, m->start[j], m->start[j + 1], values, count, sums);
            for (int r = 0; r < count; r++)
                out[r * m->pairs + pair] = sums[r] + m->intercept[pair];
        }
}

typedef void (*Decide)(const Machine *, const double *, int, double *, double *);

#if defined(__x86_64__)
#define NAME(x) x##_avx512
#define TARGET __attribute__((target("avx512f")))
#define VEC __m512d
#define WIDTH 8
#define SET1 _mm512_set1_pd
#define LOAD _mm512_loadu_pd
#define STORE _mm512_storeu_pd
#define ADD _mm512_add_pd
#define SUB _mm512_sub_pd
#define MUL _mm512_mul_pd
#define FMA _mm512_fmadd_pd
#include "lanes.h"

#define NAME(x) x##_avx2
#define TARGET __attribute__((target("avx2,fma")))
#define VEC __m256d
#define WIDTH 4
#define SET1 _mm256_set1_pd
#define LOAD _mm256_loadu_pd
#define STORE _mm256_storeu_pd
#define ADD _mm256_add_pd
#define SUB _mm256_sub_pd
#define MUL _mm256_mul_pd
#define FMA _mm256_fmadd_pd
#include "lanes.h"

/* What this processor runs; NULL: libsvm is as good. */
static Decide chosen(void)
{
    if (__builtin_cpu_supports("avx512f"))
        return decide_avx512;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? decide_avx2 : NULL;
}
#else
static Decide chosen(void)
{
    return NULL;
}
#endif

/* ---- for Python ------------------------------------------------------------------------------ */

static void machine_dealloc(PyObject *self)
{
    Machine *m = (Machine *)self;
    free(m->group);
    free(m->weights);
    free(m->intercept);
    free(m->start);
    free_object(self);
}

static int set_starts(Machine *m, PyObject *o_counts)
{
    Py_ssize_t classes = -1, total = 0;
    int32_t *counts = copy_items(o_counts, "counts", 'i', &classes);
    if (!counts)
        return -1;
    m->classes = classes;
    m->pairs = classes > 1 ? classes * (classes - 1) / 2 : 1;
    m->start = classes > 0 && classes < 4096 ? calloc((size_t)classes + 1, sizeof(Py_ssize_t)) : NULL;
    for (Py_ssize_t i = 0; m->start && i < classes; i++) {
        total = counts[i] < 0 || counts[i] > m->vectors - total ? -1 : total + counts[i];
        if (total < 0)
            break;
        m->start[i + 1] = total;
    }
    free(counts);
    if (!m->start || total != m->vectors) {
        PyErr_SetString(PyExc_ValueError, "counts do not add up to the vectors");
        return -1;
    }
    return 0;
}

static int set_groups(Machine *m, PyObject *o_vectors)
{
    Py_buffer view;
    if (get_buffer(o_vectors, &view, "vectors", 'd', PyBUF_SIMPLE) < 0)
        return -1;
    int told = -1;
    if (view.ndim != 2 || view.shape[0] < 1 || view.shape[1] < 1) {
        PyErr_SetString(PyExc_ValueError, "vectors are rows of numbers");
        goto done;
    }
    m->vectors = view.shape[0];
    m->features = view.shape[1];
    m->groups = (m->vectors + LANES - 1) / LANES;
    m->group = calloc((size_t)(m->groups * m->features), LANES * sizeof(double));
    if (!m->group) {
        PyErr_NoMemory();
        goto done;
    }
    const double *from = view.buf;
    for (Py_ssize_t v = 0; v < m->vectors; v++)
        for (Py_ssize_t f = 0; f < m->features; f++)
            m->group[(v / LANES * m->features + f) * LANES + v % LANES] = *from++;
    told = 0;
done:
    PyBuffer_Release(&view);
    return told;
}

static PyObject *machine_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *vectors, *weights, *intercept, *counts;
    int kernel, degree, order;
    double gamma, coef0;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "OOOOiiddi", &vectors, &weights, &intercept, &counts, &kernel,
                          &degree, &gamma, &coef0, &order))
        return NULL;
    if (kernel < 0 || kernel >= KERNELS || order < 0 || order >= ORDERS || degree < 0 ||
        degree > MOST_DEGREE || !chosen()) {
        PyErr_SetString(PyExc_ValueError, "a kernel, an order or a processor that is not known");
        return NULL;
    }
    Machine *m = new_object(type);
    if (!m)
        return NULL;
    m->kernel = kernel;
    m->order = order;
    m->degree = degree;
    m->gamma = gamma;
    m->coef0 = coef0;
    if (set_groups(m, vectors) < 0 || set_starts(m, counts) < 0)
        goto failed;
    Py_ssize_t most = (m->classes > 1 ? m->classes - 1 : 1) * m->vectors;
    if (!(m->weights = copy_items(weights, "weights", 'd', &most)) ||
        !(m->intercept = copy_items(intercept, "intercept", 'd', &m->pairs)))
        goto failed;
    return (PyObject *)m;
failed:
    Py_DECREF(m);
    return NULL;
}

static PyObject *machine_decide(PyObject *self, PyObject *args)
{
    const Machine *m = (const Machine *)self;
    PyObject *rows_in, *out_in;
    Py_buffer rows, out;
    if (!PyArg_ParseTuple(args, "OO", &rows_in, &out_in) ||
        get_buffer(rows_in, &rows, "rows", 'd', PyBUF_SIMPLE) < 0)
        return NULL;
    if (get_buffer(out_in, &out, "out", 'd', PyBUF_WRITABLE) < 0) {
        PyBuffer_Release(&rows);
        return NULL;
    }
    double *values = NULL;
    if (rows.ndim != 2 || rows.shape[1] != m->features ||
        out.len != rows.shape[0] * m->pairs * (Py_ssize_t)sizeof(double))
        PyErr_Format(PyExc_ValueError, "rows are of %zd numbers, out of %zd", m->features, m->pairs);
    else if (!(values = calloc((size_t)(m->groups * LANES * ROWS), sizeof(double))))
        PyErr_NoMemory();
    if (values) {
        const Decide decide = chosen();
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t at = 0; at < rows.shape[0]; at += ROWS) {
            const Py_ssize_t left = rows.shape[0] - at;
            decide(m, (const double *)rows.buf + at * m->features, left < ROWS ? (int)left : ROWS,
                   values, (double *)out.buf + at * m->pairs);
        }
        Py_END_ALLOW_THREADS
    }
    const int told = values != NULL;
    free(values);
    PyBuffer_Release(&out);
    PyBuffer_Release(&rows);
    if (!told)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef machine_methods[] = {
    {"decide", machine_decide, METH_VARARGS,
     "decide(rows, out): the decision of each pair of classes, out [rows, pairs]"},
    {NULL, NULL, 0, NULL}};

static PyType_Slot machine_slots[] = {{Py_tp_new, machine_new},
                                      {Py_tp_dealloc, machine_dealloc},
                                      {Py_tp_methods, machine_methods},
                                      {0, NULL}};

static PyType_Spec machine_spec = {"martlet.native._vectors.Machine", sizeof(Machine), 0,
                                   Py_TPFLAGS_DEFAULT, machine_slots};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_vectors", "The decisions of support vector machines.", -1, NULL, NULL,
    NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__vectors(void)
{
    return module_with(&module, &machine_spec);
}
