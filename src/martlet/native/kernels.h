/* Arithmetic on rows of float32, by the best instruction set of the machine at hand: AVX-512, AVX2, or
   four floats at a time. They differ by no more than the order in which sums are added up. */

#ifndef MARTLET_KERNELS_H
#define MARTLET_KERNELS_H

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

typedef enum { IDENTITY, RELU, SIGMOID, TANH, LEAKY, SILU, GELU, ACTIVATIONS } Activation;

/* out = start + in x weights, then nothing or relu: `depth` weights of `padded` columns, a multiple of
   PAD. A product of more rows than one is made for ROWS of them at a time: in, start and out have as
   many. A start_stride of 0 starts every row alike. */
typedef struct {
    const float *in, *weights, *start;
    float *out;
    Py_ssize_t stride, depth, padded, start_stride, out_stride;
    int relu;
} Product;

typedef struct {
    void (*product)(const Product *product, Py_ssize_t rows);
    float (*dot)(const float *a, const float *b, Py_ssize_t count);
    void (*add)(const float *a, const float *b, float *out, Py_ssize_t count, int relu);
    void (*times)(const float *rows, Py_ssize_t count, Py_ssize_t stride, const float *one,
                  float *out);
    void (*activate)(Activation kind, float slope, float *values, Py_ssize_t count);
    void (*softmax)(float *values, Py_ssize_t count);
} Kernel;

#if defined(__x86_64__)
/* A division of sixteen takes as long as five steps of Newton's. */
__attribute__((target("avx512f"))) static inline __m512 inverse_avx512(__m512 value)
{
    __m512 guess = _mm512_rcp14_ps(value), two = _mm512_set1_ps(2.0f);
    return _mm512_mul_ps(guess, _mm512_fnmadd_ps(value, guess, two));
}

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
#define MUL _mm512_mul_ps
#define MAX _mm512_max_ps
#define MIN _mm512_min_ps
#define INVERSE inverse_avx512
#define TOTAL _mm512_reduce_add_ps
#include "kernel.h"

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
#define MUL _mm256_mul_ps
#define MAX _mm256_max_ps
#define MIN _mm256_min_ps
#define INVERSE(v) _mm256_div_ps(_mm256_set1_ps(1.0f), v)
#define TOTAL total_avx2
#include "kernel.h"
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

static inline Four smaller(Four a, Four b)
{
    for (int k = 0; k < 4; k++)
        b[k] = a[k] < b[k] ? a[k] : b[k];
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
#define MUL(a, b) ((a) * (b))
#define MAX larger
#define MIN smaller
#define INVERSE(v) (splat(1.0f) / (v))
#define TOTAL(v) (((v)[0] + (v)[1]) + ((v)[2] + (v)[3]))
#include "kernel.h"

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

/* use(name=None), of each module that computes by a kernel. */
static PyObject *use(PyObject *module, PyObject *args)
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

static PyMethodDef kernel_methods[] = {
    {"use", use, METH_VARARGS,
     "use(name=None): compute by this kernel from now on (None: the machine's best); its name."},
    {NULL, NULL, 0, NULL},
};

static Py_ssize_t padded(Py_ssize_t count)
{
    return (count + PAD - 1) / PAD * PAD;
}

static float *aligned(void *memory)
{
    return (float *)(((uintptr_t)memory + ALIGNMENT - 1) & ~(uintptr_t)(ALIGNMENT - 1));
}

#endif
