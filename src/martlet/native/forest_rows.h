/*
 * Rows of a matrix through a forest: in groups of LANES rows down each tree, so that its nodes stay in
 * the cache, and what is left one by one.
 */
#ifndef MARTLET_FOREST_ROWS_H
#define MARTLET_FOREST_ROWS_H
#include <stdlib.h>
#include <string.h>

#include "forest.h"
#include "forest_kernels.h"
#include "forest_walk.h"

#define GROUPS_BYTES (1 << 18) /* of the groups that go down one tree after the other */
#define COLUMNS_BYTES (1 << 21) /* where a column's rows are far from the next one's */
#define WIDE_BYTES (1 << 20)   /* of one group: past this, rows are walked one by one */
#define COLUMNS_AT_ONCE 16     /* that are laid out of all groups, of a matrix by columns */
#define ALIGNED 64

/* A matrix [rows, features] of float or double, contiguous by row or by column. */
typedef struct {
    const char *data;
    int is_single;
    Py_ssize_t rows, row_step, column_step; /* in items */
} Matrix;

static inline const char *row_of(const Matrix *x, Py_ssize_t row)
{
    return x->data + row * x->row_step * (Py_ssize_t)(x->is_single ? sizeof(float) : sizeof(double));
}

/* What becomes of rows: their leaves, or their sums. */
typedef struct {
    int32_t *leaves; /* [rows, trees], or NULL */
    const Sum *sum;  /* or NULL */
    double *sums;    /* [rows, outputs] */
} Wanted;

/* ---- rows laid out --------------------------------------------------------------------------- */

/* The plan of a call: what lies where in groups. */
typedef struct {
    const Forest *forest;
    int cuts;   /* whether trees that are kept as cuts go down so */
    int packed; /* whether groups have the used features alone, not room for all */
} Plan;

/* Where in a group its used feature *i* is, in LANES. */
static inline Py_ssize_t place_of(const Plan *plan, int i)
{
    return plan->packed ? i : plan->forest->used[i];
}

/*
 * Lays rows out as [columns, LANES] in groups, and says which groups have a NaN. In place of rows that
 * are not there, the last one is repeated. A matrix by columns is read column by column.
 */
#define DEFINE_SPREAD(NAME, FROM, ROUNDED, TO)                                                \
    static inline int NAME##_one(const FROM *from, Py_ssize_t step, int rows, TO *to)         \
    {                                                                                         \
        int has_nan = 0;                                                                      \
        for (int k = 0; k < LANES; k++) {                                                     \
            const FROM v = from[(k < rows ? k : rows - 1) * step];                            \
            to[k] = (TO)(ROUNDED)v;                                                           \
            has_nan |= v != v;                                                                \
        }                                                                                     \
        return has_nan;                                                                       \
    }                                                                                         \
    static int NAME(const Plan *plan, const Matrix *x, Py_ssize_t row, int rows, int first,   \
                    int count, void *group)                                                   \
    {                                                                                         \
        const FROM *from = (const FROM *)(const void *)row_of(x, row);                        \
        int has_nan = 0;                                                                      \
        for (int i = first; i < first + count; i++) {                                         \
            const FROM *column = from + plan->forest->used[i] * x->column_step;               \
            TO *to = (TO *)group + place_of(plan, i) * LANES;                                 \
            if (rows < LANES)                                                                 \
                has_nan |= NAME##_one(column, x->row_step, rows, to);                         \
            else if (x->row_step == 1)                                                        \
                has_nan |= NAME##_one(column, 1, LANES, to);                                  \
            else                                                                              \
                has_nan |= NAME##_one(column, x->row_step, LANES, to);                        \
        }                                                                                     \
        return has_nan;                                                                       \
    }

DEFINE_SPREAD(spread_64_64, double, double, double)
DEFINE_SPREAD(spread_64_32, double, float, float)
DEFINE_SPREAD(spread_64_rounded, double, float, double)
DEFINE_SPREAD(spread_32_64, float, float, double)
DEFINE_SPREAD(spread_32_32, float, float, float)

typedef int (*Spread)(const Plan *, const Matrix *, Py_ssize_t, int, int, int, void *);

static void spread(const Plan *plan, const Matrix *x, Py_ssize_t row, Py_ssize_t rows,
                   Groups *groups)
{
    const Forest *f = plan->forest;
    const Spread of_columns = x->is_single ? (f->narrow ? spread_32_32 : spread_32_64)
                              : f->narrow  ? spread_64_32
                              : f->rounds  ? spread_64_rounded
                                           : spread_64_64;
    const int at_once = x->row_step == 1 ? COLUMNS_AT_ONCE : f->used_count;
    memset(groups->has_nan, 0, sizeof groups->has_nan);
    for (int first = 0; first < f->used_count; first += at_once) {
        const int left = f->used_count - first;
        for (int i = 0; i < groups->count; i++) {
            const Py_ssize_t done = (Py_ssize_t)i * LANES;
            groups->has_nan[i] |= (uint8_t)of_columns(
                plan, x, row + done, rows - done < LANES ? (int)(rows - done) : LANES, first,
                left < at_once ? left : at_once, groups->memory + (size_t)i * groups->stride);
        }
    }
    for (int i = 0; i < groups->count && f->has_sets; i++) {
        char *group = groups->memory + (size_t)i * groups->stride;
        const double *values = (const double *)(void *)group;
        int32_t *codes = (int32_t *)(void *)(group + groups->codes);
        for (int used = 0; used < f->used_count; used++) {
            const Py_ssize_t at = place_of(plan, used) * LANES;
            for (int k = 0; k < LANES; k++)
                codes[at + k] = code_of(values[at + k], f->truncates);
        }
    }
}

static Plan plan_of(const Forest *f)
{
    const int cuts = chosen.cut && f->kept;
    return (Plan){f, cuts, cuts && f->kept == f->trees};
}

static size_t rounded_up(size_t bytes)
{
    return (bytes + ALIGNED - 1) / ALIGNED * ALIGNED;
}

static Groups groups_of(const Plan *plan, const Sum *s)
{
    const Forest *f = plan->forest;
    const size_t cells = (size_t)(plan->packed ? f->used_count : f->features) * LANES;
    Groups groups = {.codes = rounded_up(cells * (f->narrow ? sizeof(float) : sizeof(double)))};
    groups.sums = groups.codes + (f->has_sets ? rounded_up(cells * sizeof(int32_t)) : 0);
    groups.stride = groups.sums;
    if (s && s->target)
        groups.stride += (size_t)s->outputs * LANES * sizeof(double);
    return groups;
}

/* ---- groups of rows down each tree ----------------------------------------------------------- */

/* Puts the answers of LANES rows, that are at leaves, into *answers*. */
static void walk_group(const Forest *f, int32_t tree, const Groups *groups, int i,
                       int32_t *answers)
{
    const Group group = group_of(groups, i);
    uint32_t at[LANES];
    for (int k = 0; k < LANES; k++)
        at[k] = f->roots[tree];
    WALKS[0][f->narrow][f->has_sets ? 2 : groups->has_nan[i]](f, group.values, group.codes, at,
                                                              f->depth[tree]);
    for (int k = 0; k < LANES; k++)
        answers[k] = answer_of(f, at[k]);
}

/* Adds what *tree* says of LANES rows to the sums of its output. */
static void add_group(const Sum *s, int32_t tree, const int32_t *answers, const Adding *adding,
                      void *sums)
{
    const double weight = s->weights[tree], *values = s->values;
    double added[LANES];
    for (int k = 0; k < LANES; k++)
        added[k] = weight * values[answers[k] < 0 ? s->forest->answers : answers[k]];
    if (adding->is_single)
        for (int k = 0; k < LANES; k++)
            ((float *)sums)[k] += (float)added[k];
    else
        for (int k = 0; k < LANES; k++)
            ((double *)sums)[k] += added[k];
}

/* All groups down *tree*. *answers* is room for [groups, LANES]. */
static void down(const Plan *plan, int32_t tree, const Groups *groups, const Wanted *wanted,
                 Py_ssize_t rows, int32_t *answers)
{
    const Forest *f = plan->forest;
    const Sum *s = wanted->sum;
    const int by_output = s && s->target;
    const int is_cut = plan->cuts && f->cut_trees[tree].first_end >= 0;
    Adding adding = {NULL, 0, 0};
    if (by_output)
        adding = (Adding){NULL, s->target[tree], s->single};
    if (is_cut && by_output) {
        const size_t size = s->single ? sizeof(float) : sizeof(double);
        adding.adds = (const char *)s->adds + (size_t)f->cut_trees[tree].first_end * size;
        chosen.cut(f, tree, groups, &adding, NULL);
        return;
    }
    if (is_cut) {
        const int32_t *ends = f->ends + f->cut_trees[tree].first_end;
        chosen.cut(f, tree, groups, NULL, (uint32_t *)answers);
        for (int i = 0; i < groups->count * LANES; i++)
            answers[i] = ends[answers[i]];
    } else {
        for (int i = 0; i < groups->count; i++)
            walk_group(f, tree, groups, i, answers + i * LANES);
    }
    for (int i = 0; i < groups->count && by_output; i++)
        add_group(s, tree, answers + i * LANES, &adding, sums_of(groups, i, &adding));
    for (Py_ssize_t row = 0; row < rows && wanted->leaves; row++)
        wanted->leaves[row * f->trees + tree] = answers[row];
    for (Py_ssize_t row = 0; row < rows && s && !by_output; row++)
        add(s, tree, answers[row], wanted->sums + row * s->outputs);
}

static void start_group(const Sum *s, const Groups *groups, int i)
{
    for (int32_t k = 0; k < s->outputs; k++) {
        const Adding adding = {NULL, k, s->single};
        void *sums = sums_of(groups, i, &adding);
        for (int lane = 0; lane < LANES; lane++)
            if (s->single)
                ((float *)sums)[lane] = (float)s->start[k];
            else
                ((double *)sums)[lane] = s->start[k];
    }
}

/* Puts the sums of the first *rows* of a group into *to*, [rows, outputs]. */
static void end_group(const Sum *s, const Groups *groups, int i, int rows, double *to)
{
    const Adding adding = {NULL, 0, s->single};
    const void *sums = sums_of(groups, i, &adding);
    for (int lane = 0; lane < rows; lane++)
        for (int32_t k = 0; k < s->outputs; k++, to++)
            *to = s->single ? ((const float *)sums)[k * LANES + lane]
                            : ((const double *)sums)[k * LANES + lane];
}

/* Rows that are laid out down all trees. */
static void run_groups(const Plan *plan, const Groups *groups, const Wanted *wanted,
                       Py_ssize_t rows)
{
    const Sum *s = wanted->sum;
    int32_t answers[MOST_GROUPS * LANES];
    if (s && s->target)
        for (int i = 0; i < groups->count; i++)
            start_group(s, groups, i);
    for (int32_t tree = 0; tree < plan->forest->trees; tree++)
        down(plan, tree, groups, wanted, rows, answers);
    if (s && s->target)
        for (int i = 0; i < groups->count; i++) {
            const Py_ssize_t left = rows - (Py_ssize_t)i * LANES;
            end_group(s, groups, i, left < LANES ? (int)left : LANES,
                      wanted->sums + (Py_ssize_t)i * LANES * s->outputs);
        }
}

/* ---- rows one by one ------------------------------------------------------------------------- */

/* Whether rows of that precision are in the forest's own. */
static int is_own(const Forest *f, int is_single)
{
    return is_single ? f->narrow : !f->rounds;
}

/* Where the codes are in the room of one row: after its values. */
static int32_t *codes_in(const Forest *f, void *row)
{
    return (int32_t *)(void *)((double *)row + f->features);
}

/* Puts *v* in place *i* of a row in the forest's own precision. */
static inline void put(const Forest *f, void *row, Py_ssize_t i, double v)
{
    if (f->narrow)
        ((float *)row)[i] = (float)v;
    else
        ((double *)row)[i] = f->rounds ? (float)v : v;
}

/* Copies one row, whose items may lie unaligned and *step* apart, into the forest's own precision. */
static void convert(const Forest *f, const char *from, Py_ssize_t step, int is_single, void *to)
{
    for (Py_ssize_t i = 0; i < f->features; i++) {
        float single;
        double v;
        if (is_single) {
            memcpy(&single, from + i * step * (Py_ssize_t)sizeof single, sizeof single);
            v = single;
        } else {
            memcpy(&v, from + i * step * (Py_ssize_t)sizeof v, sizeof v);
        }
        put(f, to, i, v);
    }
}

static void run_row(const Forest *f, const Matrix *x, Py_ssize_t row, const Wanted *wanted,
                    char *scratch)
{
    const void *one = row_of(x, row);
    if (x->column_step != 1 || !is_own(f, x->is_single)) {
        convert(f, one, x->column_step, x->is_single, scratch);
        one = scratch;
    }
    walk_row(f, one, codes_in(f, scratch), wanted->leaves, wanted->sum, wanted->sums);
}

/* ---- all rows -------------------------------------------------------------------------------- */

static Wanted from_row(const Forest *f, const Wanted *wanted, Py_ssize_t row)
{
    Wanted rest = *wanted;
    if (rest.leaves)
        rest.leaves += row * f->trees;
    if (rest.sum)
        rest.sums += row * rest.sum->outputs;
    return rest;
}

/*
 * How many of the rows go in groups. A walk of few rows, one by one, costs less than one of a group
 * that is not full; with cuts, less than LANES rows pay for the group, more where trees are large.
 */
static Py_ssize_t in_groups(const Plan *plan, const Groups *groups, Py_ssize_t rows)
{
    const Forest *f = plan->forest;
    const Py_ssize_t rest = rows % LANES;
    if (groups->stride > WIDE_BYTES)
        return 0;
    if (plan->cuts && f->kept * 2 >= f->trees && rest >= 2 + f->cut_count / f->kept / 8)
        return rows;
    return rows - rest;
}

/* All rows; returns -1 without memory. Needs no GIL. */
static int run_rows(const Forest *f, const Matrix *x, const Wanted *wanted)
{
    const Plan plan = plan_of(f);
    const Sum *s = wanted->sum;
    Groups groups = groups_of(&plan, s);
    const Py_ssize_t grouped = in_groups(&plan, &groups, x->rows);
    const size_t room = x->row_step == 1 ? COLUMNS_BYTES : GROUPS_BYTES;
    const size_t fit = groups.stride ? room / groups.stride : MOST_GROUPS;
    const int most = fit > MOST_GROUPS ? MOST_GROUPS : fit < 1 ? 1 : (int)fit;
    const Py_ssize_t wide = (grouped + LANES - 1) / LANES;
    const size_t group_bytes = groups.stride * (size_t)(wide < most ? wide : most);
    const size_t row_bytes = (size_t)f->features * (sizeof(double) + sizeof(int32_t)) + 1;
    char *scratch = malloc((group_bytes > row_bytes ? group_bytes : row_bytes) + ALIGNED);
    if (!scratch)
        return -1;
    groups.memory = (char *)(((uintptr_t)scratch + ALIGNED - 1) / ALIGNED * ALIGNED);
    /* Other sums are added up in their place. */
    for (Py_ssize_t row = s && s->target ? grouped : 0; row < x->rows && s; row++)
        memcpy(wanted->sums + row * s->outputs, s->start, (size_t)s->outputs * sizeof(double));
    for (Py_ssize_t row = 0; row < grouped; row += (Py_ssize_t)most * LANES) {
        const Py_ssize_t left = grouped - row, here = left < most * LANES ? left : most * LANES;
        const Wanted rest = from_row(f, wanted, row);
        groups.count = (int)((here + LANES - 1) / LANES);
        spread(&plan, x, row, here, &groups);
        run_groups(&plan, &groups, &rest, here);
    }
    for (Py_ssize_t row = grouped; row < x->rows; row++) {
        const Wanted rest = from_row(f, wanted, row);
        run_row(f, x, row, &rest, scratch);
    }
    free(scratch);
    return 0;
}

#endif
