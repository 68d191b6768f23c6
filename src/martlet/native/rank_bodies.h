/* The bodies of ":rank": what all items share, {"context": {...}}, and the items, by columns. */
#ifndef MARTLET_RANK_BODIES_H
#define MARTLET_RANK_BODIES_H
#include "inputs.h"

#define COPIED_BYTES 64 /* a shorter row is copied for each item: as martlet.tensors.repeated */
#define EXACT 9007199254740992.0 /* 2**53: integers below it are exact in a double */

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
static PyObject *shared_tensor(const Inputs *inputs, PyObject *repeat, Py_ssize_t i, Column *c,
                               int rank, Py_ssize_t *size)
{
    const Py_ssize_t count = size[0], row_bytes = c->used;
    if (c->strings || row_bytes >= COPIED_BYTES) {
        size[0] = 1;
        PyObject *row = tensor_of(inputs, i, c, rank, size);
        PyObject *found = row ? PyObject_CallFunction(repeat, "On", row, count) : NULL;
        Py_XDECREF(row);
        return found;
    }
    char *grown = realloc(c->data, (size_t)(row_bytes * count) + 1);
    if (!grown)
        return PyErr_NoMemory();
    c->data = grown;
    for (; c->used < row_bytes * count; c->used += row_bytes)
        memcpy(grown + c->used, grown, (size_t)row_bytes);
    return tensor_of(inputs, i, c, rank, size);
}

/* *tensors*: filled with {name: tensor}. *repeat*(tensor of one row, count): that row so many times. */
static Outcome rank_inputs(const Inputs *inputs, PyObject *repeat, Column *columns,
                           PyObject *tensors)
{
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
        PyObject *tensor = c->seen == SHARED
                               ? shared_tensor(inputs, repeat, i, c, rank, size)
                               : tensor_of(inputs, i, c, rank, size);
        if (!put_tensor(inputs, i, tensors, tensor))
            return FAILED;
    }
    return OK;
}

#endif
