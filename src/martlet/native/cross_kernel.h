/* The arithmetic of cross.c for one instruction set; cross.c includes it once for each.

   It defines NAME(x), TARGET, WIDTH (floats in a VEC), VEC, COLUMNS (the most VECs side by side in a
   block), and LOAD, SOME (the first few floats, zeros after), STORE, SET1, ADD, FMA, MAX and TOTAL
   on them. Every row of scratch is padded to PAD floats, and there are ROWS of them even where
   fewer are wanted; users' and items' rows are not padded, and nothing beyond them is read. */

/* out = in x weights + bias for ROWS rows and `columns` VECs: the sums stay in registers while the
   weights stream past once. */
TARGET static inline __attribute__((always_inline)) void
NAME(block)(const float *in, Py_ssize_t stride, const Layer *layer, Py_ssize_t at, float *out,
            const int columns, const int relu)
{
    VEC sum[ROWS][COLUMNS];
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < columns; c++)
            sum[r][c] = LOAD(layer->bias + at + c * WIDTH);
    for (Py_ssize_t i = 0; i < layer->inputs; i++) {
        VEC weight[COLUMNS];
        for (int c = 0; c < columns; c++)
            weight[c] = LOAD(layer->weights + i * layer->padded + at + c * WIDTH);
        for (int r = 0; r < ROWS; r++) {
            VEC value = SET1(in[r * stride + i]);
            for (int c = 0; c < columns; c++)
                sum[r][c] = FMA(value, weight[c], sum[r][c]);
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < columns; c++)
            STORE(out + r * stride + at + c * WIDTH,
                  relu ? MAX(SET1(0.0f), sum[r][c]) : sum[r][c]);
}

/* Relu keeps NaN, as the libraries do: MAX gives its second argument when either is NaN. */
TARGET static void NAME(dense)(const float *in, Py_ssize_t stride, const Layer *layer, float *out,
                               int relu)
{
    Py_ssize_t at = 0;
    for (; at + COLUMNS * WIDTH <= layer->padded; at += COLUMNS * WIDTH)
        NAME(block)(in, stride, layer, at, out, COLUMNS, relu);
    for (; at < layer->padded; at += PAD)
        NAME(block)(in, stride, layer, at, out, PAD / WIDTH, relu);
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

static const Kernel NAME(kernel) = {NAME(dense), NAME(dot), NAME(add)};

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
#undef FMA
#undef MAX
#undef TOTAL
