/*
 * Groups of rows down the trees that are kept as cuts (forest.h), by AVX-512 or AVX2; without
 * them, all trees are walked. The answers are the same to the last bit.
 */
#ifndef MARTLET_FOREST_KERNELS_H
#define MARTLET_FOREST_KERNELS_H
#include <Python.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "forest.h"

#define MOST_GROUPS 16 /* of LANES rows, that go down one tree after the other */

/*
 * Groups of LANES rows, each *stride* bytes: values [features, LANES] in the forest's precision;
 * from *codes* on their codes, of the same shape, where there are sets; from *sums* on what was
 * added up, [outputs, LANES], floats where the Sum is single, where it has a target.
 */
typedef struct {
    char *memory;
    size_t stride, codes, sums;
    int count;
    uint8_t has_nan[MOST_GROUPS];
} Groups;

typedef struct {
    const char *values;
    const int32_t *codes;
} Group;

/* What a tree adds to its output. */
typedef struct {
    const void *adds; /* by its leaf */
    int32_t target;
    int is_single; /* of adds and sums */
} Adding;

static inline Group group_of(const Groups *groups, int i)
{
    const char *values = groups->memory + (size_t)i * groups->stride;
    return (Group){values, (const int32_t *)(const void *)(values + groups->codes)};
}

static inline void *sums_of(const Groups *groups, int i, const Adding *adding)
{
    const size_t size = adding->is_single ? sizeof(float) : sizeof(double);
    return groups->memory + (size_t)i * groups->stride + groups->sums +
           (size_t)adding->target * LANES * size;
}

typedef struct {
    const char *name;
    /* Takes groups down a tree: adds what it says, or without *adding* puts the number of each row's
       leaf in the tree into *ends*, [count, LANES]. NULL: every tree is walked. */
    void (*cut)(const Forest *f, int32_t tree, const Groups *groups, const Adding *adding,
                uint32_t *ends);
    int most_cuts; /* of a tree that it takes down faster than a walk does */
} Kernel;

#if defined(__x86_64__)

/* ---- AVX-512 --------------------------------------------------------------------------------- */

#define NAME(x) x##_avx512
#define TARGET __attribute__((target("avx512f,avx512cd")))
#define LEFT Left512
#define ALL ((Left512){_mm512_set1_epi32(-1), _mm512_set1_epi32(-1)})

typedef struct {
    __m512i low, high; /* of 16 rows; or where wide of 8 and 8 */
} Left512;

/* Which codes are not in a set: of its words, halves. Those of NO_CODE are past them all. */
TARGET static inline __attribute__((always_inline)) __mmask16 not_in_set_avx512(const Set *set,
                                                                                __m512i codes)
{
    const __m512i half = _mm512_sub_epi32(_mm512_srli_epi32(codes, 5),
                                          _mm512_set1_epi32((int)(set->base * 2)));
    const __mmask16 known = _mm512_cmplt_epu32_mask(half, _mm512_set1_epi32((int)(set->size * 2)));
    const __m512i bits =
        _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), known, half, set->words, 4);
    const __m512i at = _mm512_and_si512(codes, _mm512_set1_epi32(31));
    return _mm512_testn_epi32_mask(_mm512_srlv_epi32(bits, at), _mm512_set1_epi32(1));
}

TARGET static inline __attribute__((always_inline)) void
clear_avx512(const Cut *cut, Group group, Left512 *left, const int kind, const int narrow,
             const int wide)
{
    __mmask8 low, high;
    if (narrow) {
        const __m512 x = _mm512_loadu_ps((const float *)(const void *)group.values + cut->column);
        const __m512 t = _mm512_set1_ps(cut->test.single);
        const __mmask16 all = kind == ABOVE ? _mm512_cmp_ps_mask(x, t, _CMP_GT_OQ)
                                            : _mm512_cmp_ps_mask(x, t, _CMP_NLE_UQ);
        if (!wide) {
            const __m512i clears = _mm512_set1_epi32((int)cut->clears);
            left->low = _mm512_mask_andnot_epi32(left->low, all, clears, left->low);
            return;
        }
        low = (__mmask8)all;
        high = (__mmask8)(all >> 8);
    } else {
        const double *values = (const double *)(const void *)group.values + cut->column;
        const __m512d x = _mm512_loadu_pd(values), y = _mm512_loadu_pd(values + 8);
        if (kind == ABOVE || kind == ABOVE_OR_NAN) {
            const __m512d t = _mm512_set1_pd(cut->test.threshold);
            low = kind == ABOVE ? _mm512_cmp_pd_mask(x, t, _CMP_GT_OQ)
                                : _mm512_cmp_pd_mask(x, t, _CMP_NLE_UQ);
            high = kind == ABOVE ? _mm512_cmp_pd_mask(y, t, _CMP_GT_OQ)
                                 : _mm512_cmp_pd_mask(y, t, _CMP_NLE_UQ);
        } else {
            const __m512i c = _mm512_loadu_si512(group.codes + cut->column);
            if (kind == OUTSIDE || kind == OUTSIDE_KNOWN) { /* a shift by NO_CODE leaves nothing */
                const __m512i mask = _mm512_set1_epi64((int64_t)cut->test.mask);
                const __m512i one = _mm512_set1_epi64(1);
                const __m512i of_x = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(c));
                const __m512i of_y = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64(c, 1));
                low = _mm512_testn_epi64_mask(_mm512_srlv_epi64(mask, of_x), one);
                high = _mm512_testn_epi64_mask(_mm512_srlv_epi64(mask, of_y), one);
            } else {
                const __mmask16 all = not_in_set_avx512(cut->test.set, c);
                low = (__mmask8)all;
                high = (__mmask8)(all >> 8);
            }
            if (kind == OUTSIDE_KNOWN || kind == NOT_IN_SET_KNOWN) {
                low &= _mm512_cmp_pd_mask(x, x, _CMP_ORD_Q);
                high &= _mm512_cmp_pd_mask(y, y, _CMP_ORD_Q);
            }
        }
    }
    const __m512i clears = _mm512_set1_epi64((int64_t)cut->clears);
    left->low = _mm512_mask_andnot_epi64(left->low, low, clears, left->low);
    left->high = _mm512_mask_andnot_epi64(left->high, high, clears, left->high);
}

/* The numbers of the first leaves that are left: 16 of 32 bits. */
TARGET static inline __attribute__((always_inline)) __m512i first_avx512(Left512 left,
                                                                         const int wide)
{
    if (!wide)
        return _mm512_lzcnt_epi32(left.low);
    const __m256i low = _mm512_cvtepi64_epi32(_mm512_lzcnt_epi64(left.low));
    const __m256i high = _mm512_cvtepi64_epi32(_mm512_lzcnt_epi64(left.high));
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
}

TARGET static inline __attribute__((always_inline)) void ends_avx512(Left512 left, uint32_t *ends,
                                                                     const int wide)
{
    _mm512_storeu_si512(ends, first_avx512(left, wide));
}

TARGET static inline __attribute__((always_inline)) void
add_single_avx512(Left512 left, const float *adds, float *sums, const int wide)
{
    const __m512 added = _mm512_i32gather_ps(first_avx512(left, wide), adds, sizeof *adds);
    _mm512_storeu_ps(sums, _mm512_add_ps(_mm512_loadu_ps(sums), added));
}

TARGET static inline __attribute__((always_inline)) void
add_double_avx512(Left512 left, const double *adds, double *sums, const int wide)
{
    const __m512i first = first_avx512(left, wide);
    const __m512d low = _mm512_i32gather_pd(_mm512_castsi512_si256(first), adds, sizeof *adds);
    const __m512d high =
        _mm512_i32gather_pd(_mm512_extracti64x4_epi64(first, 1), adds, sizeof *adds);
    _mm512_storeu_pd(sums, _mm512_add_pd(_mm512_loadu_pd(sums), low));
    _mm512_storeu_pd(sums + 8, _mm512_add_pd(_mm512_loadu_pd(sums + 8), high));
}

#include "forest_kernel.h"

/* ---- AVX2 ------------------------------------------------------------------------------------ */

#define NAME(x) x##_avx2
#define TARGET __attribute__((target("avx2")))
#define LEFT Left256
#define ALL                                                                                   \
    ((Left256){{_mm256_set1_epi32(-1), _mm256_set1_epi32(-1), _mm256_set1_epi32(-1),          \
                _mm256_set1_epi32(-1)}})

typedef struct {
    __m256i part[4]; /* of 8 rows in the first two; or where wide of 4 rows each */
} Left256;

TARGET static inline __attribute__((always_inline)) __m128i not_in_set_avx2(const Set *set,
                                                                            __m128i codes)
{
    const __m128i half =
        _mm_sub_epi32(_mm_srli_epi32(codes, 5), _mm_set1_epi32((int)(set->base * 2)));
    const __m128i known = _mm_and_si128(_mm_cmpgt_epi32(half, _mm_set1_epi32(-1)),
                                        _mm_cmplt_epi32(half, _mm_set1_epi32((int)(set->size * 2))));
    const __m128i bits = _mm_mask_i32gather_epi32(
        _mm_setzero_si128(), (const int *)(const void *)set->words, half, known, 4);
    const __m128i at = _mm_and_si128(codes, _mm_set1_epi32(31));
    const __m128i bit = _mm_and_si128(_mm_srlv_epi32(bits, at), _mm_set1_epi32(1));
    return _mm_cmpeq_epi32(bit, _mm_setzero_si128());
}

TARGET static inline __attribute__((always_inline)) void
clear_avx2(const Cut *cut, Group group, Left256 *left, const int kind, const int narrow,
           const int wide)
{
    const float *floats = (const float *)(const void *)group.values + cut->column;
    const double *doubles = (const double *)(const void *)group.values + cut->column;
    const __m256i clears = wide ? _mm256_set1_epi64x((int64_t)cut->clears)
                                : _mm256_set1_epi32((int)cut->clears);
    if (narrow) {
        const __m256 t = _mm256_set1_ps(cut->test.single);
        for (int i = 0; i < 2; i++) {
            const __m256 x = _mm256_loadu_ps(floats + i * 8);
            const __m256i cleared =
                _mm256_castps_si256(kind == ABOVE ? _mm256_cmp_ps(x, t, _CMP_GT_OQ)
                                                  : _mm256_cmp_ps(x, t, _CMP_NLE_UQ));
            if (!wide) {
                left->part[i] =
                    _mm256_andnot_si256(_mm256_and_si256(cleared, clears), left->part[i]);
                continue;
            }
            const __m256i low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(cleared));
            const __m256i high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256(cleared, 1));
            left->part[2 * i] =
                _mm256_andnot_si256(_mm256_and_si256(low, clears), left->part[2 * i]);
            left->part[2 * i + 1] =
                _mm256_andnot_si256(_mm256_and_si256(high, clears), left->part[2 * i + 1]);
        }
        return;
    }
    for (int i = 0; i < 4; i++) {
        const __m256d x = _mm256_loadu_pd(doubles + i * 4);
        const __m256d t = _mm256_set1_pd(cut->test.threshold);
        __m256i cleared;
        if (kind == ABOVE) {
            cleared = _mm256_castpd_si256(_mm256_cmp_pd(x, t, _CMP_GT_OQ));
        } else if (kind == ABOVE_OR_NAN) {
            cleared = _mm256_castpd_si256(_mm256_cmp_pd(x, t, _CMP_NLE_UQ));
        } else {
            const __m128i c =
                _mm_loadu_si128((const __m128i *)(const void *)(group.codes + cut->column + i * 4));
            if (kind == OUTSIDE || kind == OUTSIDE_KNOWN) { /* a shift by NO_CODE leaves nothing */
                const __m256i mask = _mm256_set1_epi64x((int64_t)cut->test.mask);
                const __m256i bit =
                    _mm256_and_si256(_mm256_srlv_epi64(mask, _mm256_cvtepi32_epi64(c)),
                                     _mm256_set1_epi64x(1));
                cleared = _mm256_cmpeq_epi64(bit, _mm256_setzero_si256());
            } else {
                cleared = _mm256_cvtepi32_epi64(not_in_set_avx2(cut->test.set, c));
            }
            if (kind == OUTSIDE_KNOWN || kind == NOT_IN_SET_KNOWN)
                cleared = _mm256_and_si256(
                    cleared, _mm256_castpd_si256(_mm256_cmp_pd(x, x, _CMP_ORD_Q)));
        }
        left->part[i] = _mm256_andnot_si256(_mm256_and_si256(cleared, clears), left->part[i]);
    }
}

TARGET static inline __attribute__((always_inline)) void ends_avx2(Left256 left, uint32_t *ends,
                                                                   const int wide)
{
    uint64_t bits[LANES];
    uint32_t few[LANES];
    memcpy(wide ? (void *)bits : (void *)few, left.part, wide ? sizeof bits : sizeof few);
    for (int k = 0; k < LANES; k++) /* a leaf is always left: the row's own */
        ends[k] = (uint32_t)(wide ? __builtin_clzll(bits[k]) : __builtin_clz(few[k]));
}

TARGET static inline __attribute__((always_inline)) void
add_single_avx2(Left256 left, const float *adds, float *sums, const int wide)
{
    uint32_t ends[LANES];
    ends_avx2(left, ends, wide);
    for (int k = 0; k < LANES; k++)
        sums[k] += adds[ends[k]];
}

TARGET static inline __attribute__((always_inline)) void
add_double_avx2(Left256 left, const double *adds, double *sums, const int wide)
{
    uint32_t ends[LANES];
    ends_avx2(left, ends, wide);
    for (int k = 0; k < LANES; k++)
        sums[k] += adds[ends[k]];
}

#include "forest_kernel.h"
#endif

/* ---- choice ---------------------------------------------------------------------------------- */

static const Kernel plain = {"plain", NULL, 0};
static Kernel chosen = {"plain", NULL, 0};

static int choose(const char *name)
{
#if defined(__x86_64__)
    if ((!name || !strcmp(name, "avx512")) && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512cd")) {
        chosen = (Kernel){"avx512", cut_avx512, MOST_LEAVES};
        return 0;
    }
    if ((!name || !strcmp(name, "avx2")) && __builtin_cpu_supports("avx2")) {
        chosen = (Kernel){"avx2", cut_avx2, MOST_LEAVES * 5 / 8};
        return 0;
    }
#endif
    if (name && strcmp(name, plain.name))
        return -1;
    chosen = plain;
    return 0;
}

#endif
