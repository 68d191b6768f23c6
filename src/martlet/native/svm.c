/* What libsvm makes of the decisions between pairs of classes: votes, and probabilities. Where this
   part is missing, martlet.formats.sklearn.vectors counts votes itself and has libsvm estimate.

   Pair p is of the classes i < j, in the order (0, 1), (0, 2), ... (1, 2), ...; a decision above 0 is
   for i. Sums are added and compared in libsvm's own order, so that every bit is the same. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "arrays.h"

#define MOST_CLASSES 4096

/* Of the classes with the most votes the first; the winner of one row. */
static Py_ssize_t winner(const double *decisions, Py_ssize_t classes, int32_t *votes)
{
    for (Py_ssize_t i = 0; i < classes; i++)
        votes[i] = 0;
    for (Py_ssize_t i = 0; i < classes; i++)
        for (Py_ssize_t j = i + 1; j < classes; j++)
            votes[*decisions++ > 0 ? i : j]++;
    Py_ssize_t most = 0;
    for (Py_ssize_t i = 1; i < classes; i++)
        if (votes[i] > votes[most])
            most = i;
    return most;
}

/* scikit-learn's score of each class: its votes, and less than half a vote for how sure they are. */
static void score(const double *decisions, Py_ssize_t classes, int32_t *votes, double *scores)
{
    for (Py_ssize_t i = 0; i < classes; i++) {
        votes[i] = 0;
        scores[i] = 0.0;
    }
    for (Py_ssize_t i = 0; i < classes; i++)
        for (Py_ssize_t j = i + 1; j < classes; j++, decisions++) {
            const double against = -*decisions;
            scores[i] -= against;
            scores[j] += against;
            votes[*decisions < 0 ? j : i]++;
        }
    for (Py_ssize_t i = 0; i < classes; i++)
        scores[i] = votes[i] + scores[i] / (3 * (fabs(scores[i]) + 1));
}

/* The probability of the first of two classes: libsvm's sigmoid_predict. */
static double sigmoid(double decision, double a, double b)
{
    const double z = decision * a + b;
    if (z >= 0)
        return exp(-z) / (1.0 + exp(-z));
    return 1.0 / (1 + exp(z));
}

/* From the probabilities of pairs to those of classes: libsvm's multiclass_probability, which is the
   second method of Wu, Lin and Weng, "Probability Estimates for Multi-class Classification by
   Pairwise Coupling", JMLR 5 (2004). pairs and q are [n, n]. */
static void couple(Py_ssize_t n, const double *pairs, double *q, double *qp, double *p)
{
    const Py_ssize_t most = n > 100 ? n : 100;
    const double enough = 0.005 / n;
    for (Py_ssize_t t = 0; t < n; t++) {
        p[t] = 1.0 / n;
        q[t * n + t] = 0;
        for (Py_ssize_t j = 0; j < n; j++) {
            if (j == t)
                continue;
            const double against = pairs[j * n + t];
            q[t * n + t] += against * against;
            q[t * n + j] = j < t ? q[j * n + t] : -against * pairs[t * n + j];
        }
    }
    for (Py_ssize_t turn = 0; turn < most; turn++) {
        double pqp = 0, worst = 0;
        for (Py_ssize_t t = 0; t < n; t++) {
            qp[t] = 0;
            for (Py_ssize_t j = 0; j < n; j++)
                qp[t] += q[t * n + j] * p[j];
            pqp += p[t] * qp[t];
        }
        for (Py_ssize_t t = 0; t < n; t++) {
            const double error = fabs(qp[t] - pqp);
            if (error > worst)
                worst = error;
        }
        if (worst < enough)
            return;
        for (Py_ssize_t t = 0; t < n; t++) {
            const double *row = q + t * n;
            const double step = (-qp[t] + pqp) / row[t];
            p[t] += step;
            pqp = (pqp + step * (step * row[t] + 2 * qp[t])) / (1 + step) / (1 + step);
            for (Py_ssize_t j = 0; j < n; j++) {
                qp[j] = (qp[j] + step * row[j]) / (1 + step);
                p[j] /= (1 + step);
            }
        }
    }
}

static void estimate(const double *decisions, Py_ssize_t n, const double *a, const double *b,
                     double *scratch, double *p)
{
    const double least = 1e-7;
    double *pairs = scratch, *q = scratch + n * n, *qp = q + n * n;
    for (Py_ssize_t i = 0; i < n; i++)
        for (Py_ssize_t j = i + 1; j < n; j++) {
            double found = sigmoid(*decisions++, *a++, *b++);
            found = found > least ? found : least;
            found = found < 1 - least ? found : 1 - least;
            pairs[i * n + j] = found;
            pairs[j * n + i] = 1 - found;
        }
    couple(n, pairs, q, qp, p);
}

/* ---- for Python ------------------------------------------------------------------------------ */

typedef struct {
    Py_buffer decisions, out;
    Py_ssize_t rows, classes, pairs;
} Given;

/* *out* has a row of *each* items for every row of the decisions; of classes' where it is 0. */
static int get_given(PyObject *decisions, PyObject *out, Py_ssize_t classes, char kind, Given *given)
{
    if (get_buffer(decisions, &given->decisions, "decisions", 'd', PyBUF_SIMPLE) < 0)
        return -1;
    if (get_buffer(out, &given->out, "out", kind, PyBUF_WRITABLE) < 0) {
        PyBuffer_Release(&given->decisions);
        return -1;
    }
    const Py_buffer *from = &given->decisions, *to = &given->out;
    given->classes = classes;
    given->pairs = classes * (classes - 1) / 2;
    given->rows = from->ndim == 2 ? from->shape[0] : -1;
    const Py_ssize_t width = kind == 'd' ? classes : 1;
    if (classes < 2 || classes > MOST_CLASSES || given->rows < 0 ||
        from->shape[1] != given->pairs || to->len != given->rows * width * 8) {
        PyErr_SetString(PyExc_ValueError, "the decisions are not of each pair of classes");
        PyBuffer_Release(&given->out);
        PyBuffer_Release(&given->decisions);
        return -1;
    }
    return 0;
}

static void release(Given *given)
{
    PyBuffer_Release(&given->out);
    PyBuffer_Release(&given->decisions);
}

/* choose(decisions, classes, out) and score(decisions, classes, out) */
static PyObject *counted(PyObject *args, int scores)
{
    PyObject *decisions, *out;
    Py_ssize_t classes;
    Given given;
    if (!PyArg_ParseTuple(args, "OnO", &decisions, &classes, &out) ||
        get_given(decisions, out, classes, scores ? 'd' : 'q', &given) < 0)
        return NULL;
    int32_t *votes = malloc((size_t)classes * sizeof(int32_t));
    if (!votes) {
        release(&given);
        return PyErr_NoMemory();
    }
    Py_BEGIN_ALLOW_THREADS
    for (Py_ssize_t row = 0; row < given.rows; row++) {
        const double *each = (const double *)given.decisions.buf + row * given.pairs;
        if (scores)
            score(each, classes, votes, (double *)given.out.buf + row * classes);
        else
            ((int64_t *)given.out.buf)[row] = winner(each, classes, votes);
    }
    Py_END_ALLOW_THREADS
    free(votes);
    release(&given);
    Py_RETURN_NONE;
}

static PyObject *choose_all(PyObject *Py_UNUSED(module), PyObject *args)
{
    return counted(args, 0);
}

static PyObject *score_all(PyObject *Py_UNUSED(module), PyObject *args)
{
    return counted(args, 1);
}

static PyObject *estimate_all(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyObject *decisions, *a_in, *b_in, *out;
    Py_ssize_t classes;
    Given given;
    if (!PyArg_ParseTuple(args, "OnOOO", &decisions, &classes, &a_in, &b_in, &out) ||
        get_given(decisions, out, classes, 'd', &given) < 0)
        return NULL;
    Py_ssize_t count_a = given.pairs, count_b = given.pairs;
    double *a = copy_items(a_in, "a", 'd', &count_a);
    double *b = a ? copy_items(b_in, "b", 'd', &count_b) : NULL;
    double *scratch = b ? malloc((size_t)(classes * (2 * classes + 1)) * sizeof(double)) : NULL;
    if (scratch) {
        Py_BEGIN_ALLOW_THREADS
        for (Py_ssize_t row = 0; row < given.rows; row++)
            estimate((const double *)given.decisions.buf + row * given.pairs, classes, a, b,
                     scratch, (double *)given.out.buf + row * classes);
        Py_END_ALLOW_THREADS
    } else if (b) {
        PyErr_NoMemory();
    }
    const int told = scratch != NULL;
    free(scratch);
    free(b);
    free(a);
    release(&given);
    if (!told)
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"choose", choose_all, METH_VARARGS,
     "choose(decisions, classes, out): the class of each row, out int64 [rows]"},
    {"score", score_all, METH_VARARGS,
     "score(decisions, classes, out): the scores one against the rest, out [rows, classes]"},
    {"estimate", estimate_all, METH_VARARGS,
     "estimate(decisions, classes, a, b, out): the probabilities, out [rows, classes]"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_svm", "Votes and probabilities of libsvm's decisions.", -1, methods,
    NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__svm(void) { return PyModule_Create(&module); }
