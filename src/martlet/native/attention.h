/* The arithmetic of attention.c, on plain arrays of floats.

   The items of the history lie side by side: a candidate's vector goes into the first layer's weights
   (W diag(q)), a few numbers, and one product with the keys gives that layer for the whole history at
   once. */

#ifndef MARTLET_ATTENTION_H
#define MARTLET_ATTENTION_H
#include "kernels.h"

#define MOST_LAYERS 16
#define OUT_OF_SIGHT -5e8f /* a bias below it hides an item of the history from the softmax */

typedef struct {
    Py_ssize_t inputs, outputs, stride;
    float *weights; /* [outputs in ROWS, stride]: each output's weights, then its bias */
    Activation activation;
    float slope;
} Layer;

typedef struct {
    PyObject_HEAD
    Py_ssize_t query, hidden, stride, widest;
    int softmax, gated, count;
    Layer layers[MOST_LAYERS]; /* the first is over the products of query and key */
    Py_ssize_t values, width;  /* of `out`; 0 where the values are added as they are */
    float *out;                /* [values, padded width] */
    char *memory;
} Unit;

/* One user's history: what it has of each item that counts, side by side. */
typedef struct {
    Py_ssize_t used, padded, columns;
    float *keys;   /* [query + 1, padded]; the last row is ones */
    float *added;  /* [hidden in ROWS, padded] */
    float *gate;   /* [padded] */
    float *bias;   /* [padded] */
    float *values; /* [used, columns] */
} History;

typedef struct {
    float *one, *first, *rows, *next, *weights, *sums, *made, *zeros;
} Scratch;

static Py_ssize_t in_rows(Py_ssize_t count)
{
    return (count + ROWS - 1) / ROWS * ROWS;
}

static Py_ssize_t before_values(const Unit *unit)
{
    return unit->query + unit->hidden + (unit->gated ? 2 : 0);
}

/* Whether an item of the history counts: what a softmax does not see, and what adds nothing, do not. */
static int counts(const Unit *unit, const float *row, Py_ssize_t width)
{
    const float *values = row + before_values(unit);
    if (unit->softmax)
        return !(unit->gated && values[-1] < OUT_OF_SIGHT);
    for (Py_ssize_t i = 0; i < width; i++)
        if (values[i] != 0.0f)
            return 1;
    return 0;
}

static void read_history(const Unit *unit, const float *rows, Py_ssize_t positions, Py_ssize_t width,
                         History *history)
{
    Py_ssize_t query = unit->query, hidden = unit->hidden, length = before_values(unit) + width;
    Py_ssize_t used = 0;
    for (Py_ssize_t t = 0; t < positions; t++)
        used += counts(unit, rows + t * length, width);
    int all = unit->softmax && !used; /* where none is seen, all are alike */
    history->used = used = all ? positions : used;
    Py_ssize_t wide = history->padded = padded(used);
    for (Py_ssize_t t = 0, at = 0; t < positions; t++) {
        const float *row = rows + t * length;
        if (!all && !counts(unit, row, width))
            continue;
        for (Py_ssize_t i = 0; i < query; i++)
            history->keys[i * wide + at] = row[i];
        for (Py_ssize_t i = 0; i < hidden; i++)
            history->added[i * wide + at] = row[query + i];
        if (unit->gated) {
            history->gate[at] = row[query + hidden];
            history->bias[at] = row[query + hidden + 1];
        }
        memcpy(history->values + at * history->columns, row + length - width,
               width * sizeof(float));
        at++;
    }
    for (Py_ssize_t t = 0; t < wide; t++)
        history->keys[query * wide + t] = 1.0f;
    for (Py_ssize_t i = 0; i < query; i++)
        memset(history->keys + i * wide + used, 0, (wide - used) * sizeof(float));
    for (Py_ssize_t i = 0; i < hidden; i++)
        memset(history->added + i * wide + used, 0, (wide - used) * sizeof(float));
    memset(history->added + hidden * wide, 0, (in_rows(hidden) - hidden) * wide * sizeof(float));
}

/* The weight of each item of the history for one candidate, whose row [query | hidden] is `item`. */
static void weigh(const Unit *unit, const History *history, const float *item, Scratch *scratch,
                  float *weights)
{
    const Layer *layer = &unit->layers[0];
    Py_ssize_t wide = history->padded, rows = in_rows(layer->outputs);
    memcpy(scratch->one, item, unit->query * sizeof(float));
    scratch->one[unit->query] = 1.0f; /* what the first layer's biases are taken by */
    chosen->times(layer->weights, rows, layer->stride, scratch->one, scratch->first);
    for (Py_ssize_t o = 0; o < layer->outputs; o++)
        scratch->first[o * layer->stride + unit->query] += item[unit->query + o];
    const float *in = scratch->first, *from = history->keys, *start = history->added;
    float *out = scratch->rows, *other = scratch->next;
    Py_ssize_t start_stride = wide;
    for (int k = 0; k < unit->count; k++) {
        layer = &unit->layers[k];
        in = k ? layer->weights : in;
        Product product = {in, from, start, out, layer->stride, layer->inputs + 1,
                           wide, start_stride, wide, layer->activation == RELU};
        chosen->product(&product, layer->outputs);
        if (layer->activation > RELU)
            chosen->activate(layer->activation, layer->slope, out, layer->outputs * wide);
        if (k + 1 == unit->count)
            break;
        for (Py_ssize_t t = 0; t < wide; t++)
            out[layer->outputs * wide + t] = 1.0f; /* the same for the next one's */
        from = out;
        out = other;
        other = (float *)from;
        start = scratch->zeros;
        start_stride = 0;
    }
    if (unit->softmax) {
        for (Py_ssize_t t = 0; t < history->used && unit->gated; t++)
            out[t] = out[t] * history->gate[t] + history->bias[t];
        for (Py_ssize_t t = history->used; t < wide; t++)
            out[t] = -INFINITY;
        chosen->softmax(out, wide);
    }
    memcpy(weights, out, history->used * sizeof(float));
}

/* Adds to each of up to ROWS candidates' shares what it makes of one user's history. */
static void attend(const Unit *unit, const History *history, const float **items, int count,
                   float *shares, Py_ssize_t width, Scratch *scratch)
{
    Py_ssize_t wide = history->padded;
    for (int r = 0; r < count; r++)
        weigh(unit, history, items[r], scratch, scratch->weights + r * wide);
    Product product = {scratch->weights, history->values, scratch->zeros, scratch->sums, wide,
                       history->used, history->columns, 0, history->columns, 0};
    chosen->product(&product, count == 1 ? 1 : ROWS);
    const float *made = scratch->sums;
    Py_ssize_t stride = history->columns;
    if (unit->out) {
        stride = padded(width);
        Product last = {made, unit->out, scratch->zeros, scratch->made, history->columns,
                        unit->values, stride, 0, stride, 0};
        chosen->product(&last, count == 1 ? 1 : ROWS);
        made = scratch->made;
    }
    for (int r = 0; r < count; r++)
        for (Py_ssize_t i = 0; i < width; i++)
            shares[r * width + i] += made[r * stride + i];
}

/* Shares out `memory` among the parts of a history and the scratch; NULL gives its length. */
static Py_ssize_t lay_out(const Unit *unit, Py_ssize_t positions, Py_ssize_t values,
                          Py_ssize_t width, float *memory, History *history, Scratch *scratch)
{
    Py_ssize_t wide = padded(positions), columns = padded(values), used = 0;
    Py_ssize_t widest = wide > columns ? wide : columns;
    widest = padded(width) > widest ? padded(width) : widest;
    Py_ssize_t sizes[] = {
        (unit->query + 1) * wide,
        in_rows(unit->hidden) * wide,
        wide,
        wide,
        positions * columns,
        unit->stride,
        in_rows(unit->hidden) * unit->stride,
        (in_rows(unit->widest) + 1) * wide,
        (in_rows(unit->widest) + 1) * wide,
        ROWS * wide,
        ROWS * columns,
        ROWS * padded(width),
        widest,
    };
    float **parts[] = {
        &history->keys,    &history->added,   &history->gate, &history->bias,
        &history->values,  &scratch->one,     &scratch->first, &scratch->rows,
        &scratch->next,    &scratch->weights, &scratch->sums, &scratch->made,
        &scratch->zeros,
    };
    history->columns = columns;
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        *parts[k] = memory ? memory + used : NULL;
        used += padded(sizes[k]);
    }
    return used;
}

#endif
