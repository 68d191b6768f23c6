/*
 * A forest from the arrays that describe it. Everything that a walk follows is checked here: an index
 * past its array is an error, and a child comes after its parent.
 */
#ifndef MARTLET_FOREST_BUILD_H
#define MARTLET_FOREST_BUILD_H
#include <stdlib.h>
#include <string.h>

#include "arrays.h"
#include "forest.h"
#include "forest_cuts.h"

static void free_parts(Parts *parts)
{
    free(parts->roots);
    free(parts->feature);
    free(parts->threshold);
    free(parts->children);
    free(parts->set_of);
    free(parts->sets);
}

static void free_nodes(Forest *f)
{
    free(f->roots);
    free(f->depth);
    free(f->tree_nodes);
    free(f->sets);
    free(f->words);
    free(f->used);
    free(f->cut_trees);
    free(f->cuts);
    free(f->ends);
}

/* Where a walk goes for *child* of node *parent*: the byte offset; or -1, out of range. */
static int64_t offset_of(const Forest *f, int32_t child, int32_t parent)
{
    if (child >= 0)
        return child > parent && child < f->nodes ? child * (int64_t)node_size(f) : -1;
    /* Child -1 is the leaf of no answer, -2 that of answer 0. */
    return -(int64_t)child - 1 <= f->answers
               ? f->leaf0 + (-(int64_t)child - 1) * (int64_t)node_size(f)
               : -1;
}

static void put_node(Forest *f, int32_t i, const Node64 *node)
{
    if (!f->narrow) {
        ((Node64 *)f->tree_nodes)[i] = *node;
        return;
    }
    Node32 *to = (Node32 *)f->tree_nodes + i;
    to->test.threshold = (float)node->test.threshold;
    to->feature = node->feature;
    memcpy(to->child, node->child, sizeof to->child);
}

static void pack_leaf(Forest *f, int32_t i)
{
    const uint32_t itself = (uint32_t)((size_t)i * node_size(f));
    const Node64 node = {{0.0}, 0, {itself, itself, itself}};
    put_node(f, i, &node);
}

/* Packs inner node *i*, whose children's depths are known, and sets its own. */
static int pack_inner(Forest *f, const Parts *parts, int32_t i, int32_t *depth)
{
    const int32_t column = parts->feature[i], number = parts->set_of[i];
    Node64 node = {{parts->threshold[i]}, column, {0, 0, 0}};
    if (column < 0 || column >= f->features || number >= parts->set_count)
        return out_of_range("node", i);
    if (number >= 0) {
        const Set *set = &f->sets[number];
        node.feature = ~(is_mask(set) ? column : column | LOOKED_UP);
        node.test.mask = !is_mask(set) ? (uint64_t)number : set->size ? set->words[0] : 0;
    }
    for (int k = 0; k < 3; k++) {
        const int32_t to = parts->children[(Py_ssize_t)i * 3 + k];
        const int64_t offset = offset_of(f, to, i);
        if (offset < 0)
            return out_of_range("node", i);
        node.child[k] = (uint32_t)offset;
        const int32_t below = to >= 0 ? depth[to] : 0;
        depth[i] = below + 1 > depth[i] ? below + 1 : depth[i];
    }
    put_node(f, i, &node);
    return 0;
}

/* Packs the nodes from the last, so that children come before their parents, and the roots. */
static int pack(Forest *f, const Parts *parts)
{
    int32_t lowest = -1;
    for (int64_t i = 0; i < (int64_t)f->nodes * 3; i++)
        lowest = parts->children[i] < lowest ? parts->children[i] : lowest;
    for (int32_t i = 0; i < f->trees; i++)
        lowest = parts->roots[i] < lowest ? parts->roots[i] : lowest;
    const int64_t count = (int64_t)f->nodes - lowest; /* with no answer: -lowest leaves */
    if (count * (int64_t)node_size(f) > INT32_MAX) {
        PyErr_SetString(PyExc_ValueError, "too many nodes");
        return -1;
    }
    f->answers = (int32_t)(-(int64_t)lowest - 1);
    f->leaf0 = (uint32_t)((size_t)f->nodes * node_size(f));
    const size_t padded = ((size_t)f->trees + LANES - 1) / LANES * LANES;
    f->tree_nodes = calloc((size_t)count, node_size(f));
    f->roots = calloc(padded + 1, sizeof *f->roots);
    f->depth = calloc(padded + 1, sizeof *f->depth);
    int32_t *depth = calloc((size_t)f->nodes + 1, sizeof *depth);
    int failed = !f->tree_nodes || !f->roots || !f->depth || !depth;
    if (failed)
        PyErr_NoMemory();
    for (int32_t i = (int32_t)count - 1; i >= f->nodes && !failed; i--)
        pack_leaf(f, i);
    for (int32_t i = f->nodes - 1; i >= 0 && !failed; i--)
        failed = pack_inner(f, parts, i, depth);
    for (size_t tree = 0; tree < padded && !failed; tree++) {
        const int32_t root = tree < (size_t)f->trees ? parts->roots[tree] : -1;
        const int64_t offset = offset_of(f, root, -1);
        if (offset < 0)
            failed = out_of_range("root", (Py_ssize_t)tree);
        f->roots[tree] = (uint32_t)offset;
        f->depth[tree] = root >= 0 && !failed ? depth[root] : 0;
    }
    free(depth);
    return failed ? -1 : 0;
}

static int read_sets(Forest *f, const Parts *parts, Py_ssize_t words)
{
    if (!(f->sets = malloc((size_t)parts->set_count * sizeof(Set) + 1))) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < parts->set_count; i++) {
        const int64_t start = parts->sets[i * 3], base = parts->sets[i * 3 + 1];
        const int64_t size = parts->sets[i * 3 + 2];
        if (start < 0 || base < 0 || size < 0 || start > words || size > words - start)
            return out_of_range("set", i);
        f->sets[i] = (Set){f->words + start, base, size};
    }
    return 0;
}

/*
 * Builds *f*, whose features and rounding are known, of *given*: roots, feature, threshold, children,
 * set_of, sets and words. Trees of at most so many cuts are kept as those, too. Returns -1 with an
 * error set.
 */
static int build(Forest *f, PyObject *const given[7], int most_cuts)
{
    Py_ssize_t trees = -1, nodes = -1, triples, sets = -1, words = -1;
    Parts parts = {NULL, NULL, NULL, NULL, NULL, NULL, 0};
    int failed = 1;
    if (!(parts.roots = copy_items(given[0], "roots", 'i', &trees)) ||
        !(parts.feature = copy_items(given[1], "feature", 'i', &nodes)))
        goto done;
    if (trees > INT32_MAX - LANES || nodes > INT32_MAX / 4) {
        PyErr_SetString(PyExc_ValueError, "too many nodes");
        goto done;
    }
    triples = nodes * 3;
    if (!(parts.threshold = copy_items(given[2], "threshold", 'd', &nodes)) ||
        !(parts.children = copy_items(given[3], "children", 'i', &triples)) ||
        !(parts.set_of = copy_items(given[4], "set_of", 'i', &nodes)) ||
        !(parts.sets = copy_items(given[5], "sets", 'q', &sets)) ||
        !(f->words = copy_items(given[6], "words", 'Q', &words)))
        goto done;
    if (sets % 3) {
        PyErr_SetString(PyExc_ValueError, "sets: three columns are wanted");
        goto done;
    }
    parts.set_count = sets / 3;
    f->trees = (int32_t)trees;
    f->nodes = (int32_t)nodes;
    f->has_sets = parts.set_count > 0;
    f->narrow = f->rounds && !f->has_sets;
    failed = read_sets(f, &parts, words) < 0 || pack(f, &parts) < 0;
    if (!failed && (list_used(f, &parts) < 0 || cut_trees(f, &parts, most_cuts) < 0)) {
        PyErr_NoMemory();
        failed = 1;
    }
done:
    free_parts(&parts);
    return failed ? -1 : 0;
}

#endif
