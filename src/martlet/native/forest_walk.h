/*
 * Rows walked down the trees of a forest.
 *
 * A walk is a chain of dependent loads, so LANES of them run side by side: rows down one tree, or
 * trees over one row.
 */
#ifndef MARTLET_FOREST_WALK_H
#define MARTLET_FOREST_WALK_H
#include <stdlib.h>
#include <string.h>

#include "forest.h"

#define SURE_STEPS 6 /* before asking whether all lanes have ended */

/* ---- steps ----------------------------------------------------------------------------------- */

/*
 * NAME takes LANES offsets in *at* to their leaves, in at most *depth* steps. Lane k reads feature
 * i at i * SPREAD + k * APART: a group of rows (LANES, 1), or one row for all lanes (1, 0).
 */
#define COLUMN_PLAIN(node) ((node)->feature)
#define COLUMN_SETS(node) (((node)->feature ^ ((node)->feature >> 31)) & (LOOKED_UP - 1))

#define STEP_PLAIN(f, node, v, code) (!(v <= (node)->test.threshold))
#define STEP_NAN(f, node, v, code) (!(v <= (node)->test.threshold) + (v != v))
#define STEP_SETS(f, node, v, code) step_sets(f, node, v, code)

static inline int step_sets(const Forest *f, const Node64 *node, double v, uint32_t code)
{
    const int in_set = node->feature < 0;
    const int above = !(v <= node->test.threshold);
    int outside = !((node->test.mask >> (code & 63)) & (code < MASK_CODES));
    if (in_set && (~node->feature & LOOKED_UP))
        outside = !is_member(&f->sets[node->test.mask], (int32_t)code);
    return (above ^ ((above ^ outside) & -in_set)) + (v != v);
}

#define DEFINE_WALK(NAME, NODE, REAL, COLUMN, STEP, SPREAD, APART)                            \
    static void NAME(const Forest *f, const void *rows, const int32_t *codes, uint32_t *at,   \
                     int32_t depth)                                                           \
    {                                                                                         \
        const char *nodes = f->tree_nodes;                                                    \
        const REAL *x = rows;                                                                 \
        uint32_t n[LANES];                                                                    \
        (void)codes;                                                                          \
        memcpy(n, at, sizeof n);                                                              \
        for (int32_t left = depth; left > 0; left--) {                                        \
            if (depth - left >= SURE_STEPS && (depth - left) % 2 == 0) {                      \
                int32_t live = 0;                                                             \
                for (int k = 0; k < LANES; k++)                                               \
                    live |= (int32_t)(n[k] - f->leaf0);                                       \
                if (live >= 0)                                                                \
                    break;                                                                    \
            }                                                                                 \
            for (int k = 0; k < LANES; k++) {                                                 \
                const NODE *node = (const NODE *)(nodes + n[k]);                              \
                const Py_ssize_t i = (Py_ssize_t)COLUMN(node) * (SPREAD) + k * (APART);       \
                const REAL v = x[i];                                                          \
                n[k] = node->child[STEP(f, node, v, (uint32_t)codes[i])];                               \
            }                                                                                 \
        }                                                                                     \
        memcpy(at, n, sizeof n);                                                              \
    }

DEFINE_WALK(rows_plain64, Node64, double, COLUMN_PLAIN, STEP_PLAIN, LANES, 1)
DEFINE_WALK(rows_nan64, Node64, double, COLUMN_PLAIN, STEP_NAN, LANES, 1)
DEFINE_WALK(rows_sets64, Node64, double, COLUMN_SETS, STEP_SETS, LANES, 1)
DEFINE_WALK(rows_plain32, Node32, float, COLUMN_PLAIN, STEP_PLAIN, LANES, 1)
DEFINE_WALK(rows_nan32, Node32, float, COLUMN_PLAIN, STEP_NAN, LANES, 1)
DEFINE_WALK(row_plain64, Node64, double, COLUMN_PLAIN, STEP_PLAIN, 1, 0)
DEFINE_WALK(row_nan64, Node64, double, COLUMN_PLAIN, STEP_NAN, 1, 0)
DEFINE_WALK(row_sets64, Node64, double, COLUMN_SETS, STEP_SETS, 1, 0)
DEFINE_WALK(row_plain32, Node32, float, COLUMN_PLAIN, STEP_PLAIN, 1, 0)
DEFINE_WALK(row_nan32, Node32, float, COLUMN_PLAIN, STEP_NAN, 1, 0)

typedef void (*Walk)(const Forest *, const void *, const int32_t *, uint32_t *, int32_t);

/* Indexed by [one row][narrow][plain, with NaN, with sets]. */
static const Walk WALKS[2][2][3] = {
    {{rows_plain64, rows_nan64, rows_sets64}, {rows_plain32, rows_nan32, NULL}},
    {{row_plain64, row_nan64, row_sets64}, {row_plain32, row_nan32, NULL}}};

/* ---- one row over all trees ------------------------------------------------------------------ */

/* Adds what *tree* says to the sums of one row: [outputs]. */
static inline void add(const Sum *s, int32_t tree, int32_t answer, double *sums)
{
    const Py_ssize_t row = answer < 0 ? s->forest->answers : answer;
    const double weight = s->weights[tree];
    if (s->target) {
        double *sum = sums + s->target[tree];
        /* Sums and products of two floats rounded from double are those of float arithmetic. */
        if (s->single)
            *sum = (float)(*sum + (float)(weight * s->values[row]));
        else
            *sum += weight * s->values[row];
        return;
    }
    const double *values = s->values + row * s->outputs;
    if (s->single)
        for (int32_t k = 0; k < s->outputs; k++)
            sums[k] = (float)(sums[k] + (float)(weight * values[k]));
    else
        for (int32_t k = 0; k < s->outputs; k++)
            sums[k] += weight * values[k];
}

/*
 * One row, in the forest's precision, over all trees: LANES trees at a time. *codes* is room for
 * [features] where the forest has sets.
 */
static void walk_row(const Forest *f, const void *x, int32_t *codes, int32_t *leaves, const Sum *s,
                     double *sums)
{
    int has_nan = 0;
    if (f->has_sets)
        for (int32_t i = 0; i < f->features; i++)
            codes[i] = code_of(((const double *)x)[i], f->truncates);
    else
        for (int32_t i = 0; i < f->features; i++)
            has_nan |= f->narrow ? ((const float *)x)[i] != ((const float *)x)[i]
                                 : ((const double *)x)[i] != ((const double *)x)[i];
    const Walk walk = WALKS[1][f->narrow][f->has_sets ? 2 : has_nan];
    for (int32_t tree = 0; tree < f->trees; tree += LANES) {
        uint32_t at[LANES];
        int32_t depth = 0;
        const int lanes = f->trees - tree < LANES ? (int)(f->trees - tree) : LANES;
        memcpy(at, f->roots + tree, sizeof at);
        for (int k = 0; k < LANES; k++)
            depth = f->depth[tree + k] > depth ? f->depth[tree + k] : depth;
        walk(f, x, codes, at, depth);
        for (int k = 0; k < lanes; k++) {
            const int32_t answer = answer_of(f, at[k]);
            if (leaves)
                leaves[tree + k] = answer;
            if (s)
                add(s, tree + k, answer, sums);
        }
    }
}

#endif
