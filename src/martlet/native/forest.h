/*
 * What a forest of decision trees, and a sum of what its trees say, are in memory.
 *
 * A node sends a row to child[0] (x <= threshold, or x in a set of codes), child[1] (not) or
 * child[2] (x is NaN). Inner nodes come first, each before its children, which forest_build.h
 * checks: every walk ends, whatever the file held. After them comes one leaf for each answer
 * (for -1, no answer, then 0, 1, ...), whose children are itself: a walk that has ended may go on
 * stepping in place, so that LANES walks need no branch. Children are byte offsets into the nodes.
 *
 * Every value comes with its code. Most sets fit in the codes 0..63: they are a mask in the node, so
 * that such a test needs no branch either. Other sets are looked up.
 */
#ifndef MARTLET_FOREST_H
#define MARTLET_FOREST_H
#include <Python.h>
#include <stdint.h>

#define LANES 16             /* walks that run side by side */
#define NO_CODE (-1)         /* of a value that is none */
#define MASK_CODES 64        /* codes below are in masks */
#define LOOKED_UP (1 << 30)  /* in ~feature: of a set that is no mask */
#define MOST_FEATURES LOOKED_UP

typedef struct {
    union {
        double threshold;
        uint64_t mask; /* or the number of the set, where it is looked up */
    } test;
    int32_t feature; /* ~feature where the test is membership; 0 in leaves */
    uint32_t child[3];
} Node64;

typedef struct {
    struct {
        float threshold;
    } test;
    int32_t feature;
    uint32_t child[3];
} Node32;

typedef struct {
    const uint64_t *words;
    int64_t base;  /* the word number that it holds: codes from base * 64 */
    int64_t size;  /* words */
} Set;

/*
 * A small tree is also kept as its tests, by the side that they rule out (QuickScorer: Lucchese et
 * al., "Exploiting CPU SIMD Extensions to Speed-up Document Scoring with Tree Ensembles", SIGIR
 * 2016). Its leaves are bits, the leftmost the highest. Every test of the tree is made; each that
 * does not hold clears the leaves below its YES; a row ends at the leftmost leaf that is left. No
 * test waits for another, so that LANES rows are tested at once. Equal tests are one, whose bits
 * are theirs together: those of an oblivious tree are one a level.
 */
#define MOST_LEAVES 64 /* of such a tree */

typedef enum {
    ABOVE_OR_NAN, /* what makes it clear: !(x <= threshold) */
    ABOVE,        /* x > threshold */
    OUTSIDE,       /* x is no code of the mask */
    OUTSIDE_KNOWN, /* nor NaN */
    NOT_IN_SET,    /* x is no code of the set */
    NOT_IN_SET_KNOWN,
    CUT_KINDS
} CutKind;

typedef struct {
    union {
        double threshold;
        float single; /* where the forest is narrow */
        uint64_t mask;
        const Set *set;
    } test;
    uint64_t clears; /* of a tree of few leaves: in its low 32 bits */
    int64_t column;  /* where its feature's values are in a group of LANES rows */
} Cut;

typedef struct {
    int32_t cuts[CUT_KINDS]; /* how many of each kind, one kind after the other */
    int32_t first_cut;
    int32_t first_end; /* -1: the tree is not kept so */
    int32_t end_count;
    int is_wide;       /* its leaves are 64 bits, not 32 */
} CutTree;

typedef struct {
    PyObject_HEAD
    int32_t features, trees, nodes, answers;
    int rounds;      /* values are rounded to float32 */
    int truncates;   /* values are rounded towards zero to codes; or else whole numbers are codes */
    int has_sets;    /* then nodes are Node64, and values have codes */
    int narrow;      /* nodes and values are of 32 bits: it rounds, and has no sets */
    uint32_t leaf0;  /* offset of the first leaf */
    uint32_t *roots; /* offsets, padded with leaf0 to a multiple of LANES */
    int32_t *depth;  /* of each tree: the most steps to a leaf; padded with 0 */
    void *tree_nodes; /* Node64 or Node32 [nodes + 1 + answers] */
    Set *sets;
    uint64_t *words;
    int32_t *used; /* the features that are tested */
    int32_t used_count;
    int32_t kept;       /* trees that are kept as cuts, too */
    CutTree *cut_trees; /* [trees] */
    Cut *cuts;
    int32_t cut_count;
    int32_t *ends; /* the answers of the leaves of those trees */
    int32_t end_count;
} Forest;

typedef struct {
    PyObject_HEAD
    Forest *forest;
    int32_t outputs;
    int single;      /* accumulate in float32 */
    int32_t *target; /* per tree, or NULL: values has one column per output */
    double *values;  /* [answers + 1, columns]; the last row is what no answer adds */
    double *weights; /* per tree */
    double *start;   /* per output */
    void *adds; /* with target, per end: weight times value, of single precision where single */
} Sum;

/* The code of a value: itself, or what it is rounded to, where that is an integer in 0..2^31 - 1. */
static inline int32_t code_of(double v, int truncates)
{
    const int in_range = v > -1.0 && v < 2147483648.0;
    const int32_t code = in_range ? (int32_t)v : NO_CODE;
    return truncates || (double)code == v ? code : NO_CODE;
}

/* Whether a code is in a set that is looked up. */
static inline int is_member(const Set *set, int32_t code)
{
    const int64_t word = (int64_t)(code >> 6) - set->base;
    if (code < 0 || word < 0 || word >= set->size)
        return 0;
    return (int)(set->words[word] >> (code & 63)) & 1;
}

static inline size_t node_size(const Forest *f)
{
    return f->narrow ? sizeof(Node32) : sizeof(Node64);
}

static inline int32_t answer_of(const Forest *f, uint32_t at)
{
    /* The sizes are constants, so that the divisions are multiplications. */
    const uint32_t offset = at - f->leaf0;
    return (int32_t)(f->narrow ? offset / sizeof(Node32) : offset / sizeof(Node64)) - 1;
}

#endif
