/* The arithmetic of cross.c for one instruction set; cross.c includes it once for each.

   It defines NAME(x), TARGET, WIDTH (floats in a VEC), VEC, COLUMNS (the most VECs side by side in a
   block), and LOAD, STORE, SET1, ADD, FMA and MAX on them. Every row it reads or writes is padded to
   PAD floats, and there are ROWS of them even where fewer are wanted. */

/* out = in x weights + bias for ROWS rows and `columns` VECs: the sums stay in registers while the
   weights stream past once. */
TARGET static inline __attribute__((always_inline)) void
NAME(block)(const float *in, Py_ssize_t stride, const Layer *layer, Py_ssize_t at, float *out,
            const int columns)
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
            STORE(out + r * stride + at + c * WIDTH, sum[r][c]);
}

TARGET static void NAME(dense)(const float *in, Py_ssize_t stride, const Layer *layer, float *out)
{
    Py_ssize_t at = 0;
    for (; at + COLUMNS * WIDTH <= layer->padded; at += COLUMNS * WIDTH)
        NAME(block)(in, stride, layer, at, out, COLUMNS);
    for (; at < layer->padded; at += PAD)
        NAME(block)(in, stride, layer, at, out, PAD / WIDTH);
}

TARGET static float NAME(dot)(const float *a, const float *b, Py_ssize_t count)
{
    VEC sums = SET1(0.0f);
    Py_ssize_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH)
        sums = FMA(LOAD(a + i), LOAD(b + i), sums);
    float lane[WIDTH], sum = 0.0f;
    STORE(lane, sums);
    for (int k = 0; k < WIDTH; k++)
        sum += lane[k];
    for (; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

/* out = a + b, then nothing or relu. Relu keeps NaN, as the libraries do: MAX gives its second
   argument when either is NaN. */
TARGET static void NAME(add)(const float *a, const float *b, float *out, Py_ssize_t count, int relu)
{
    Py_ssize_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH) {
        VEC sum = ADD(LOAD(a + i), LOAD(b + i));
        STORE(out + i, relu ? MAX(SET1(0.0f), sum) : sum);
    }
    for (; i < count; i++) {
        float sum = a[i] + b[i];
        out[i] = relu && sum < 0.0f ? 0.0f : sum;
    }
}

TARGET static void NAME(relu)(float *values, Py_ssize_t count)
{
    for (Py_ssize_t i = 0; i < count; i += WIDTH)
        STORE(values + i, MAX(SET1(0.0f), LOAD(values + i)));
}

static const Kernel NAME(kernel) = {NAME(dense), NAME(dot), NAME(add), NAME(relu)};

#undef NAME
#undef TARGET
#undef WIDTH
#undef VEC
#undef COLUMNS
#undef LOAD
#undef STORE
#undef SET1
#undef ADD
#undef FMA
#undef MAX
