/* The arithmetic of kernels.h for one instruction set; kernels.h includes it once for each.

   It defines NAME(x), TARGET, WIDTH (floats in a VEC), VEC, COLUMNS (the most VECs side by side in a
   block), and LOAD, SOME (the first few floats, zeros after), STORE, SET1, ADD, MUL, FMA, MAX, MIN,
   INVERSE and TOTAL on them. Rows of scratch are padded to PAD floats; users' and items' rows are
   not, and nothing beyond them is read. MAX and MIN give their second argument where either is NaN,
   so that what is NaN stays it. */

typedef uint32_t NAME(Bits) __attribute__((vector_size(WIDTH * 4)));

/* A part of a product, `rows` by `columns` VECs: the sums stay in registers while the weights stream
   past once. */
TARGET static inline __attribute__((always_inline)) void
NAME(block)(const Product *p, Py_ssize_t row, Py_ssize_t at, const int rows, const int columns)
{
    VEC sum[ROWS][COLUMNS];
    const float *in = p->in + row * p->stride;
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            sum[r][c] = LOAD(p->start + (row + r) * p->start_stride + at + c * WIDTH);
    for (Py_ssize_t i = 0; i < p->depth; i++) {
        VEC weight[COLUMNS];
        for (int c = 0; c < columns; c++)
            weight[c] = LOAD(p->weights + i * p->padded + at + c * WIDTH);
        for (int r = 0; r < rows; r++) {
            VEC value = SET1(in[r * p->stride + i]);
            for (int c = 0; c < columns; c++)
                sum[r][c] = FMA(value, weight[c], sum[r][c]);
        }
    }
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++)
            STORE(p->out + (row + r) * p->out_stride + at + c * WIDTH,
                  p->relu ? MAX(SET1(0.0f), sum[r][c]) : sum[r][c]);
}

/* As many VECs as are in so many PADs, no more than a block has. */
#define SIDE(pads) ((pads) * PAD / WIDTH < COLUMNS ? (pads) * PAD / WIDTH : COLUMNS)

TARGET static void NAME(product)(const Product *p, Py_ssize_t rows)
{
    for (Py_ssize_t row = 0; row < rows; row += ROWS) {
        Py_ssize_t at = 0;
        if (rows - row == 1) {
            for (; at + COLUMNS * WIDTH <= p->padded; at += COLUMNS * WIDTH)
                NAME(block)(p, row, at, 1, COLUMNS);
            for (; at < p->padded; at += PAD)
                NAME(block)(p, row, at, 1, SIDE(1));
            continue;
        }
        for (; at + COLUMNS * WIDTH <= p->padded; at += COLUMNS * WIDTH)
            NAME(block)(p, row, at, ROWS, COLUMNS);
        if (p->padded - at == 3 * PAD)
            NAME(block)(p, row, at, ROWS, SIDE(3));
        else if (p->padded - at == 2 * PAD)
            NAME(block)(p, row, at, ROWS, SIDE(2));
        else if (p->padded - at == PAD)
            NAME(block)(p, row, at, ROWS, SIDE(1));
    }
}

TARGET static float NAME(dot)(const float *a, const float *b, Py_ssize_t count)
{
    VEC sums = SET1(0.0f);
    Py_ssize_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH)
        sums = FMA(LOAD(a + i), LOAD(b + i), sums);
    if (i < count)
        sums = FMA(SOME(a + i, count - i), SOME(b + i, count - i), sums);
    return TOTAL(sums);
}

/* out = a + b, then nothing or relu. */
TARGET static void NAME(add)(const float *a, const float *b, float *out, Py_ssize_t count, int relu)
{
    Py_ssize_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH) {
        VEC sum = ADD(LOAD(a + i), LOAD(b + i));
        STORE(out + i, relu ? MAX(SET1(0.0f), sum) : sum);
    }
    if (i < count) {
        VEC sum = ADD(SOME(a + i, count - i), SOME(b + i, count - i));
        STORE(out + i, relu ? MAX(SET1(0.0f), sum) : sum);
    }
}

/* out = each of the rows times one row, number by number; all of `stride`, a multiple of PAD. */
TARGET static void NAME(times)(const float *rows, Py_ssize_t count, Py_ssize_t stride,
                               const float *one, float *out)
{
    for (Py_ssize_t at = 0; at < stride; at += WIDTH) {
        VEC by = LOAD(one + at);
        for (Py_ssize_t r = 0; r < count; r++)
            STORE(out + r * stride + at, MUL(LOAD(rows + r * stride + at), by));
    }
}

/* e to the x as Cephes has it (expf): x is n ln 2 + r, and e to the r a polynomial; off by two units
   in the last place. Below -87.3 it is the smallest normal number, above 88.3 the largest. */
TARGET static inline __attribute__((always_inline)) VEC NAME(exp)(VEC x)
{
    const float to_whole = 12582912.0f; /* 1.5 x 2^23: what is added to it is rounded */
    x = MIN(SET1(88.3762626f), MAX(SET1(-87.3365447f), x));
    VEC shifted = FMA(x, SET1(1.44269504f), SET1(to_whole));
    VEC n = ADD(shifted, SET1(-to_whole));
    VEC r = FMA(n, SET1(-0.693359375f), x);
    r = FMA(n, SET1(2.12194440e-4f), r);
    VEC p = SET1(1.9875691500e-4f);
    p = FMA(p, r, SET1(1.3981999507e-3f));
    p = FMA(p, r, SET1(8.3334519073e-3f));
    p = FMA(p, r, SET1(4.1665795894e-2f));
    p = FMA(p, r, SET1(1.6666665459e-1f));
    p = FMA(p, r, SET1(5.0000001201e-1f));
    p = FMA(p, MUL(r, r), ADD(r, SET1(1.0f)));
    return (VEC)((NAME(Bits))p + ((NAME(Bits))shifted << 23));
}

TARGET static inline __attribute__((always_inline)) VEC NAME(sigmoid)(VEC x)
{
    return INVERSE(ADD(SET1(1.0f), NAME(exp)(MUL(x, SET1(-1.0f)))));
}

/* x times the share of a normal distribution below x: (1 + erf(x / sqrt 2)) / 2, by Abramowitz and
   Stegun's 7.1.26, off by 1.5e-7 at most. What lies below is computed, and from above taken off 1. */
TARGET static inline __attribute__((always_inline)) VEC NAME(gelu)(VEC x)
{
    VEC size = MIN(SET1(100.0f), MAX(MUL(x, SET1(-1.0f)), x));
    VEC t = INVERSE(FMA(size, SET1(0.3275911f * 0.70710678f), SET1(1.0f)));
    VEC p = FMA(t, SET1(1.061405429f), SET1(-1.453152027f));
    p = FMA(p, t, SET1(1.421413741f));
    p = FMA(p, t, SET1(-0.284496736f));
    p = FMA(p, t, SET1(0.254829592f));
    VEC beyond = MUL(MUL(p, t), MUL(SET1(0.5f), NAME(exp)(MUL(MUL(x, x), SET1(-0.5f)))));
    /* x below 0: x beyond; above: x - x beyond, which is 0 long before 100. */
    return FMA(MUL(size, SET1(-1.0f)), beyond, MAX(SET1(0.0f), x));
}

/* Activates `count` numbers in place, a multiple of PAD. */
TARGET static void NAME(activate)(Activation kind, float slope, float *values, Py_ssize_t count)
{
    if (kind == IDENTITY)
        return;
    for (Py_ssize_t i = 0; i < count; i += WIDTH) {
        VEC x = LOAD(values + i);
        if (kind == SIGMOID)
            x = NAME(sigmoid)(x);
        else if (kind == TANH) /* 2 sigmoid(2 x) - 1 */
            x = FMA(NAME(sigmoid)(ADD(x, x)), SET1(2.0f), SET1(-1.0f));
        else if (kind == LEAKY)
            x = FMA(SET1(slope), MIN(SET1(0.0f), x), MAX(SET1(0.0f), x));
        else if (kind == SILU)
            x = MUL(x, NAME(sigmoid)(x));
        else if (kind == GELU)
            x = NAME(gelu)(x);
        else
            x = MAX(SET1(0.0f), x);
        STORE(values + i, x);
    }
}

/* The softmax of `count` numbers in place, a multiple of PAD. */
TARGET static void NAME(softmax)(float *values, Py_ssize_t count)
{
    VEC most = LOAD(values), sum = SET1(0.0f);
    float each[WIDTH], largest;
    for (Py_ssize_t i = WIDTH; i < count; i += WIDTH)
        most = MAX(LOAD(values + i), most);
    STORE(each, most);
    largest = each[0];
    for (int k = 1; k < WIDTH; k++)
        largest = each[k] > largest ? each[k] : largest;
    for (Py_ssize_t i = 0; i < count; i += WIDTH) {
        VEC one = NAME(exp)(ADD(LOAD(values + i), SET1(-largest)));
        sum = ADD(sum, one);
        STORE(values + i, one);
    }
    VEC share = SET1(1.0f / TOTAL(sum));
    for (Py_ssize_t i = 0; i < count; i += WIDTH)
        STORE(values + i, MUL(LOAD(values + i), share));
}

static const Kernel NAME(kernel) = {
    NAME(product), NAME(dot), NAME(add), NAME(times), NAME(activate), NAME(softmax),
};

#undef SIDE
#undef NAME
#undef TARGET
#undef WIDTH
#undef VEC
#undef COLUMNS
#undef LOAD
#undef SOME
#undef STORE
#undef SET1
#undef ADD
#undef MUL
#undef FMA
#undef MAX
#undef MIN
#undef INVERSE
#undef TOTAL
