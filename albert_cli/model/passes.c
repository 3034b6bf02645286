/* What stands between the encoder's matrix products, in one pass over memory each. passes.py calls it by ctypes.

   PyTorch has no single operator for these, and every operator of its own goes through memory once more. The file is
   plain C with the vector types of GCC and Clang. */

#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { LINEAR, RELU, GELU };
enum { TERMS = 13 };

/* P of `activate` in powers of 2x²/25 - 1: GELU, and GELU by tanh. */
static const float COEFFICIENTS[2][TERMS] = {
    {0.14136378f, -0.0702966524f, 0.0515214209f, -0.0404329493f, 0.0314262292f, -0.0233367323f, 0.0164976583f,
     -0.010973228f, 0.00616542538f, -0.00291567777f, 0.00200186622f, -0.00151415173f, 0.000492966987f},
    {0.141378508f, -0.0703659318f, 0.0516576489f, -0.0405389856f, 0.031340697f, -0.0230316214f, 0.0160717844f,
     -0.0104361159f, 0.00571362123f, -0.00306160811f, 0.00268411016f, -0.00203691685f, 0.000624811684f},
};

typedef float vector __attribute__((vector_size(64)));
typedef int32_t whole __attribute__((vector_size(64)));
typedef float loaded __attribute__((vector_size(64), aligned(4), may_alias));

#define WIDE 1 /* vectors of a row kept in registers at once */
#define TARGET
#define NAME(x) x##_plain
#include "passes_body.h"
#undef TARGET
#undef NAME

#if defined(__x86_64__)
#define TARGET __attribute__((target("avx2,fma")))
#define NAME(x) x##_avx2
#include "passes_body.h"
#undef TARGET
#undef NAME
#undef WIDE
#define WIDE 4
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")))
#define NAME(x) x##_avx512
#include "passes_body.h"
#undef TARGET
#undef NAME

/* 2: AVX-512, 1: AVX2, 0: neither. */
static int best(void) {
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return 2;
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static int limit = 2;

static int level(void) {
    static int found = -1;
    if (found < 0)
        found = best();
    return found < limit ? found : limit;
}

#define CALL(name, ...)                                                                                                \
    (level() == 2   ? name##_avx512(__VA_ARGS__)                                                                       \
     : level() == 1 ? name##_avx2(__VA_ARGS__)                                                                         \
                    : name##_plain(__VA_ARGS__))
#else
static int limit;
static int level(void) { return 0; }
#define CALL(name, ...) name##_plain(__VA_ARGS__)
#endif

#define EXPORT __attribute__((visibility("default")))

/* Use no more than these instructions from now on (2: all, 1: AVX2, 0: neither); what is used is returned. */
EXPORT int albert_instructions(int most) {
    limit = most;
    return level();
}

/* Each of the following returns 0, or -1 where there is no memory. */

EXPORT int albert_activate_rows(const float *products, long rows, long n, const float *scale, const float *low,
                                const float *sums, const float *bias, int act, int tanh, uint8_t *bytes,
                                float *new_scale, float *new_low) {
    float *row = malloc((size_t)n * sizeof(float));
    if (!row)
        return -1;
    CALL(activate_rows, products, rows, n, scale, low, sums, bias, act, COEFFICIENTS[tanh], row, bytes, new_scale,
         new_low);
    free(row);
    return 0;
}

EXPORT int albert_norm_rows(const float *products, long rows, long n, const float *scale, const float *low,
                            const float *sums, const float *bias, const float *residual, const float *weight,
                            const float *norm_bias, float epsilon, float *output, uint8_t *bytes, float *new_scale) {
    CALL(norm_rows, products, rows, n, scale, low, sums, bias, residual, weight, norm_bias, epsilon, output, bytes,
         new_scale);
    return 0;
}

EXPORT int albert_attention(const float *products, const float *scale, const float *bias, const long *lengths,
                            long sequences, long heads, long size, uint8_t *bytes, float *new_scale) {
    long longest = 0;
    for (long s = 0; s < sequences; s++)
        longest = lengths[s] > longest ? lengths[s] : longest;
    long padded = (longest + 15) / 16 * 16;
    long floats = size * (padded + longest + 8) + 4 * padded + longest * heads * size;
    float *scratch = malloc((size_t)floats * sizeof(float));
    if (!scratch)
        return -1;
    CALL(attention, products, scale, bias, lengths, sequences, heads, size, scratch, bytes, new_scale);
    free(scratch);
    return 0;
}

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "_passes", .m_size = 0};

PyMODINIT_FUNC PyInit__passes(void) { return PyModule_Create(&module); }
