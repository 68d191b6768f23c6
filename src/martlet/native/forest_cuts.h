/*
 * Small trees as the tests that rule out their leaves (forest.h), from arrays that were checked.
 */
#ifndef MARTLET_FOREST_CUTS_H
#define MARTLET_FOREST_CUTS_H
#include <stdlib.h>
#include <string.h>

#include "forest.h"

/* Copies of the arrays, as formats/trees/forest.py has them. */
typedef struct {
    int32_t *roots;      /* [trees] */
    int32_t *feature;    /* [nodes] */
    double *threshold;   /* [nodes] */
    int32_t *children;   /* [nodes, 3]; -1: no answer, -2: answer 0, ... */
    int32_t *set_of;     /* [nodes]; -1: the node is a comparison */
    int64_t *sets;       /* [set_count, 3]: the fields of a Set */
    Py_ssize_t set_count;
} Parts;

#define MOST_WORDS (INT64_C(1) << 25) /* of a set: all codes of 31 bits */

/* One tree as it grows. */
typedef struct {
    Cut cuts[MOST_LEAVES - 1];
    CutKind kinds[MOST_LEAVES - 1];
    int32_t ends[MOST_LEAVES];
    int cut_count, end_count;
} Growth;

/* Whether a set is a mask in its node. */
static int is_mask(const Set *set)
{
    return set->size == 0 || (set->base == 0 && set->size == 1);
}

/* Sets the test of *cut* and its kind; 0: there is no such cut. */
static int cut_of(const Forest *f, const Parts *parts, int32_t node, Cut *cut, CutKind *kind)
{
    const int32_t *child = parts->children + (Py_ssize_t)node * 3;
    const int missing_is_no = child[2] == child[1];
    if (!missing_is_no && child[2] != child[0])
        return 0;
    memset(cut, 0, sizeof *cut);
    cut->column = parts->feature[node];
    if (parts->set_of[node] >= 0) {
        const Set *set = &f->sets[parts->set_of[node]];
        if (is_mask(set)) {
            *kind = missing_is_no ? OUTSIDE : OUTSIDE_KNOWN;
            cut->test.mask = set->size ? set->words[0] : 0;
            return 1;
        }
        *kind = missing_is_no ? NOT_IN_SET : NOT_IN_SET_KNOWN;
        cut->test.set = set;
        return set->size <= MOST_WORDS && set->base <= MOST_WORDS - set->size;
    }
    *kind = missing_is_no ? ABOVE_OR_NAN : ABOVE;
    if (f->narrow)
        cut->test.single = (float)parts->threshold[node];
    else
        cut->test.threshold = parts->threshold[node];
    return 1;
}

/* The bits of the leaves from *first* to before *end*. */
static uint64_t leaves_between(int first, int end)
{
    const uint64_t from_first = ~UINT64_C(0) >> first;
    return end < MOST_LEAVES ? from_first & ~(~UINT64_C(0) >> end) : from_first;
}

/* The part of a tree below *node*; 0: it is too large, or has a test that makes no cut. */
static int grow(const Forest *f, const Parts *parts, int32_t node, Growth *tree)
{
    if (node < 0) {
        if (tree->end_count == MOST_LEAVES)
            return 0;
        tree->ends[tree->end_count++] = -node - 2;
        return 1;
    }
    /* However deep the tree, this bounds the recursion. */
    if (tree->cut_count == MOST_LEAVES - 1)
        return 0;
    const int at = tree->cut_count++, first = tree->end_count;
    if (!cut_of(f, parts, node, &tree->cuts[at], &tree->kinds[at]) ||
        !grow(f, parts, parts->children[(Py_ssize_t)node * 3], tree))
        return 0;
    tree->cuts[at].clears = leaves_between(first, tree->end_count);
    return grow(f, parts, parts->children[(Py_ssize_t)node * 3 + 1], tree);
}

/* Makes one of equal cuts. */
static void join(Growth *tree)
{
    int kept = 0;
    for (int i = 0; i < tree->cut_count; i++) {
        const Cut *cut = &tree->cuts[i];
        int same = 0;
        while (same < kept && (tree->kinds[same] != tree->kinds[i] ||
                               tree->cuts[same].column != cut->column ||
                               tree->cuts[same].test.mask != cut->test.mask))
            same++;
        if (same < kept) {
            tree->cuts[same].clears |= cut->clears;
        } else {
            tree->kinds[kept] = tree->kinds[i];
            tree->cuts[kept++] = *cut;
        }
    }
    tree->cut_count = kept;
}

/* *items* of *size*, with room for *more* after *count*: twice the room where it was too small. NULL:
   there is no memory, and they stay as they were. */
static void *with_room(void *items, size_t size, int32_t count, int more, int64_t *room)
{
    if (count + (int64_t)more <= *room)
        return items;
    const int64_t wanted = *room * 2 + more;
    void *moved = wanted > INT32_MAX ? NULL : realloc(items, (size_t)wanted * size);
    if (moved)
        *room = wanted;
    return moved;
}

static void put_cuts(const Forest *f, const Growth *grown, CutTree *tree, Cut *to)
{
    tree->is_wide = !f->narrow || grown->end_count > 32;
    for (int kind = 0; kind < CUT_KINDS; kind++)
        for (int i = 0; i < grown->cut_count; i++)
            if ((int)grown->kinds[i] == kind) {
                *to = grown->cuts[i];
                if (!tree->is_wide)
                    to->clears >>= 32;
                to++;
                tree->cuts[kind]++;
            }
}

/* Where all trees are kept, groups of rows have the used features alone. */
static void place_cuts(Forest *f, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        int64_t column = f->cuts[i].column;
        if (f->kept == f->trees) {
            int32_t low = 0, high = f->used_count - 1;
            while (low < high) {
                const int32_t middle = low + (high - low) / 2;
                if (f->used[middle] < column)
                    low = middle + 1;
                else
                    high = middle;
            }
            column = low;
        }
        f->cuts[i].column = column * LANES;
    }
}

/* Whether a tree asks sets, whose walk has branches. */
static int has_sets(const Growth *tree)
{
    int found = 0;
    for (int i = 0; i < tree->cut_count; i++)
        found |= tree->kinds[i] >= OUTSIDE;
    return found;
}

/*
 * Keeps as cuts the trees that can be: in at most so many, where they are comparisons. Returns -1
 * without memory.
 */
static int cut_trees(Forest *f, const Parts *parts, int most_cuts)
{
    int64_t cut_room = 0, end_room = 0;
    int32_t cut_count = 0;
    Growth grown;
    if (!(f->cut_trees = calloc((size_t)f->trees + 1, sizeof *f->cut_trees)))
        return -1;
    for (int32_t i = 0; i < f->trees; i++) {
        CutTree *tree = &f->cut_trees[i];
        grown.cut_count = grown.end_count = 0;
        tree->first_end = -1;
        if (!grow(f, parts, parts->roots[i], &grown))
            continue;
        join(&grown);
        if (grown.cut_count > most_cuts && !has_sets(&grown))
            continue;
        Cut *cuts = with_room(f->cuts, sizeof *cuts, cut_count, MOST_LEAVES, &cut_room);
        f->cuts = cuts ? cuts : f->cuts;
        int32_t *ends = with_room(f->ends, sizeof *ends, f->end_count, MOST_LEAVES, &end_room);
        f->ends = ends ? ends : f->ends;
        if (!cuts || !ends)
            return -1;
        put_cuts(f, &grown, tree, f->cuts + cut_count);
        memcpy(f->ends + f->end_count, grown.ends, (size_t)grown.end_count * sizeof(int32_t));
        tree->first_cut = cut_count;
        tree->first_end = f->end_count;
        tree->end_count = grown.end_count;
        cut_count += grown.cut_count;
        f->end_count += grown.end_count;
        f->kept++;
    }
    place_cuts(f, cut_count);
    f->cut_count = cut_count;
    return 0;
}

/* What each end adds, as it is added; -1 without memory. */
static int make_adds(Sum *s)
{
    const Forest *f = s->forest;
    /* A kernel may read a whole vector at the last tree's. */
    const size_t count = (size_t)f->end_count + MOST_LEAVES;
    if (!(s->adds = calloc(count, s->single ? sizeof(float) : sizeof(double))))
        return -1;
    for (int32_t tree = 0; tree < f->trees; tree++) {
        const CutTree *cut = &f->cut_trees[tree];
        for (int32_t i = 0; cut->first_end >= 0 && i < cut->end_count; i++) {
            const int32_t at = cut->first_end + i, answer = f->ends[at];
            const double added = s->weights[tree] * s->values[answer < 0 ? f->answers : answer];
            if (s->single)
                ((float *)s->adds)[at] = (float)added;
            else
                ((double *)s->adds)[at] = added;
        }
    }
    return 0;
}

/* Lists the features that nodes test; returns -1 without memory. */
static int list_used(Forest *f, const Parts *parts)
{
    uint8_t *is_used = calloc((size_t)f->features + 1, 1);
    f->used = malloc(((size_t)f->features + 1) * sizeof *f->used);
    if (is_used && f->used) {
        for (int32_t i = 0; i < f->nodes; i++)
            is_used[parts->feature[i]] = 1;
        for (int32_t i = 0; i < f->features; i++)
            if (is_used[i])
                f->used[f->used_count++] = i;
    }
    free(is_used);
    return is_used && f->used ? 0 : -1;
}

#endif
