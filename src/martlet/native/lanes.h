/* The dot products of a row with LANES support vectors, each added in the order of OpenBLAS's ddot:
   included once for each instruction set, which says NAME, TARGET, VEC, WIDTH and what follows. */

/* Adds one term to a sum, by a fused multiplication or by one that is rounded first. */
#define TERM(sum, at, fused)                                                       \
    do {                                                                           \
        const VEC each = SET1(x[at]), other = LOAD(lane + (at) * LANES);           \
        const VEC left = differs ? SUB(each, other) : each;                        \
        const VEC right = differs ? left : other;                                  \
        sum = (fused) ? FMA(left, right, sum) : ADD(sum, MUL(left, right));        \
    } while (0)

/* Adds to 16 partial sums, of each block of *wide* terms, the one at *place*, which depends on i. */
#define BLOCKS(sums, wide, place)                                                  \
    for (Py_ssize_t at = f; at + (wide) <= features; at += (wide)) {               \
        _Pragma("GCC unroll 16") for (int i = 0; i < 16; i++)                      \
            TERM(sums[i], at + (place), 1);                                        \
    }

TARGET static inline __attribute__((always_inline)) void NAME(dots)(const double *x,
                                                                    const double *group,
                                                                    Py_ssize_t features, int differs,
                                                                    enum order order, double *out)
{
    for (int part = 0; part < LANES; part += WIDTH) {
        const double *lane = group + part;
        VEC dot = SET1(0.0);
        Py_ssize_t f = 0;
        if (features >= 16) {
            VEC sums[16], more[16], four[4];
            for (int i = 0; i < 16; i++)
                sums[i] = more[i] = SET1(0.0);
            if (order == SKYLAKEX && features >= 32) {
                /* Sums of eight by eight, of which the upper four are added to the lower. */
                BLOCKS(sums, 32, i / 4 * 8 + i % 4)
                BLOCKS(more, 32, i / 4 * 8 + i % 4 + 4)
                for (int i = 0; i < 16; i++)
                    sums[i] = ADD(sums[i], more[i]);
                f = features / 32 * 32;
            }
            BLOCKS(sums, 16, i)
            f = features / 16 * 16;
            if (order == SKYLAKEX) {
                for (int i = 0; i < 4; i++)
                    four[i] = ADD(ADD(ADD(sums[i], sums[4 + i]), sums[8 + i]), sums[12 + i]);
                dot = ADD(ADD(four[0], four[2]), ADD(four[1], four[3]));
            } else {
                for (int i = 0; i < 2; i++)
                    four[i] = ADD(ADD(ADD(sums[i], sums[2 + i]), ADD(sums[4 + i], sums[6 + i])),
                                  ADD(ADD(sums[8 + i], sums[10 + i]),
                                      ADD(sums[12 + i], sums[14 + i])));
                dot = ADD(four[0], four[1]);
            }
        }
        for (; f < features; f++)
            TERM(dot, f, order == SKYLAKEX);
        STORE(out + part, dot);
    }
}

/* Decides of up to ROWS rows; values is [groups * LANES, ROWS]. */
TARGET static void NAME(decide)(const Machine *m, const double *rows, int count, double *values,
                                double *out)
{
    double found[LANES];
    for (Py_ssize_t g = 0; g < m->groups; g++) {
        const double *group = m->group + g * m->features * LANES;
        for (int r = 0; r < count; r++) {
            const double *row = rows + r * m->features;
            if (m->kernel == RBF)
                NAME(dots)(row, group, m->features, 1, m->order, found);
            else
                NAME(dots)(row, group, m->features, 0, m->order, found);
            for (int l = 0; l < LANES; l++)
                values[(g * LANES + l) * ROWS + r] = found[l];
        }
    }
    finish(m, count, values, out);
}

#undef TERM
#undef BLOCKS
#undef NAME
#undef TARGET
#undef VEC
#undef WIDTH
#undef SET1
#undef LOAD
#undef STORE
#undef ADD
#undef SUB
#undef MUL
#undef FMA
