/*
 * Rows down the trees that are kept as cuts, for one instruction set; forest_kernels.h includes it
 * once for each.
 *
 * It defines NAME(x), TARGET, LEFT (the leaves that are left to LANES rows), ALL (such, of all
 * leaves), and of LEFT: NAME(clear), which makes one test; NAME(ends), the numbers of the first
 * leaves that are left; NAME(add_single) and NAME(add_double), which add what those say.
 */

/* The leaves of *tree* that are left to a group. */
TARGET static inline __attribute__((always_inline)) LEFT
NAME(left)(const Cut *cut, const CutTree *tree, Group group, const int narrow, const int wide)
{
    LEFT left = ALL;
#define ONE_KIND(kind)                                                                        \
    for (int32_t n = tree->cuts[kind]; n > 0; n--, cut++)                                     \
        NAME(clear)(cut, group, &left, kind, narrow, wide);
    ONE_KIND(ABOVE_OR_NAN)
    ONE_KIND(ABOVE)
    if (!narrow) {
        ONE_KIND(OUTSIDE)
        ONE_KIND(OUTSIDE_KNOWN)
        ONE_KIND(NOT_IN_SET)
        ONE_KIND(NOT_IN_SET_KNOWN)
    }
#undef ONE_KIND
    return left;
}

TARGET static inline __attribute__((always_inline)) void
NAME(walk)(const Cut *cut, const CutTree *tree, const Groups *groups, const Adding *adding,
           uint32_t *ends, const int narrow, const int wide)
{
    for (int i = 0; i < groups->count; i++) {
        const LEFT left = NAME(left)(cut, tree, group_of(groups, i), narrow, wide);
        if (!adding)
            NAME(ends)(left, ends + i * LANES, wide);
        else if (adding->is_single)
            NAME(add_single)(left, adding->adds, sums_of(groups, i, adding), wide);
        else
            NAME(add_double)(left, adding->adds, sums_of(groups, i, adding), wide);
    }
}

TARGET static void NAME(cut)(const Forest *f, int32_t tree, const Groups *groups,
                             const Adding *adding, uint32_t *ends)
{
    const CutTree *of = &f->cut_trees[tree];
    const Cut *cut = f->cuts + of->first_cut;
    if (!f->narrow)
        NAME(walk)(cut, of, groups, adding, ends, 0, 1);
    else if (of->is_wide)
        NAME(walk)(cut, of, groups, adding, ends, 1, 1);
    else
        NAME(walk)(cut, of, groups, adding, ends, 1, 0);
}

#undef NAME
#undef TARGET
#undef LEFT
#undef ALL
