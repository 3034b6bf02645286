/* The passes of passes.c for one instruction set: included once for each, with NAME(x), TARGET and WIDE defined.

   All matrices are row-major. A vector is 16 floats whatever the processor has; the compiler splits it. */

#define INLINE static inline __attribute__((always_inline)) TARGET

/* The bits of a float as an integer of the same order; a NaN is above or below all numbers, so it is kept by a maximum
   or a minimum. */
INLINE int32_t NAME(ordered)(float x) {
    int32_t bits;
    memcpy(&bits, &x, 4);
    return bits ^ ((bits >> 31) & 0x7fffffff);
}

INLINE float NAME(unordered)(int32_t bits) {
    float x;
    bits ^= (bits >> 31) & 0x7fffffff;
    memcpy(&x, &bits, 4);
    return x;
}

/* e^x for x <= 0, within 2e-7 of it; a NaN stays one. */
INLINE vector NAME(exponential)(vector x) {
    whole near = x > -87.0f; /* all bits where it holds */
    vector kept = (vector)(((whole)x & near) | ((whole)((vector){0} - 87.0f) & ~near));
    whole power = __builtin_convertvector(kept * 1.44269504f - 0.5f, whole); /* to the nearest, as x is not positive */
    vector times = __builtin_convertvector(power, vector);
    vector rest = kept - times * 0.693145752f - times * 1.42860677e-6f;
    vector sum = rest * 1.3888889e-3f + 8.3333333e-3f;
    sum = sum * rest + 4.1666667e-2f;
    sum = sum * rest + 1.6666667e-1f;
    sum = sum * rest + 0.5f;
    sum = sum * rest + 1.0f;
    sum = sum * rest + 1.0f;
    return (vector)((whole)(sum * (vector)((power + 127) << 23)) | ~(x == x)); /* all bits set are a NaN */
}

/* x·Φ(x) with Φ(x) - 1/2 = x·P(x²) up to |x| = 5, by least squares, and constant beyond: within 1e-6 of GELU there, and
   within 3e-7·|x| beyond. */
INLINE void NAME(activate)(float *restrict row, long n, const float *restrict coefficients) {
    for (long j = 0; j < n; j++) {
        float x = row[j];
        float near = x > 5.0f ? 5.0f : x;
        near = near < -5.0f ? -5.0f : near;
        float t = near * near * 0.08f - 1.0f, sum = coefficients[TERMS - 1];
        for (int k = TERMS - 2; k >= 0; k--)
            sum = sum * t + coefficients[k];
        row[j] = x * (0.5f + near * sum);
    }
}

/* A product of bytes back to numbers: products·scale + bias + low·sums; `low` is 0 where rows have none. */
INLINE void NAME(scaled)(float *restrict row, const float *restrict products, long n, float scale, float low,
                         const float *restrict sums, const float *restrict bias) {
    if (low == 0)
        for (long j = 0; j < n; j++)
            row[j] = products[j] * scale + bias[j];
    else
        for (long j = 0; j < n; j++)
            row[j] = products[j] * scale + (bias[j] + low * sums[j]);
}

/* 127 steps either way of 128, up to the largest absolute value; the step is returned. */
INLINE float NAME(centred)(const float *restrict row, long n, uint8_t *restrict bytes) {
    int32_t top = 0;
    for (long j = 0; j < n; j++) {
        int32_t bits;
        memcpy(&bits, row + j, 4);
        bits &= 0x7fffffff;
        top = bits > top ? bits : top;
    }
    float scale;
    memcpy(&scale, &top, 4);
    scale = (scale < 1e-30f ? 1e-30f : scale) / 127.0f;
    float inverse = 1.0f / scale;
    for (long j = 0; j < n; j++)
        bytes[j] = (uint8_t)(int32_t)(row[j] * inverse + 128.5f);
    return scale;
}

/* For each row: act(products·scale + bias + low·sums) to bytes, 255 steps from its least value to its largest. */
TARGET void NAME(activate_rows)(const float *products, long rows, long n, const float *scale, const float *low,
                                const float *sums, const float *bias, int act, const float *coefficients, float *row,
                                uint8_t *bytes, float *new_scale, float *new_low) {
    for (long i = 0; i < rows; i++, products += n, bytes += n) {
        NAME(scaled)(row, products, n, scale[i], low ? low[i] : 0, sums, bias);
        if (act == GELU)
            NAME(activate)(row, n, coefficients);
        else if (act == RELU)
            for (long j = 0; j < n; j++)
                row[j] = row[j] < 0 ? 0 : row[j];
        int32_t least = INT32_MAX, top = INT32_MIN;
        for (long j = 0; j < n; j++) {
            int32_t bits = NAME(ordered)(row[j]);
            least = bits < least ? bits : least;
            top = bits > top ? bits : top;
        }
        float from = NAME(unordered)(least), step = NAME(unordered)(top) - from;
        step = (step < 1e-30f ? 1e-30f : step) / 255.0f;
        float inverse = 1.0f / step;
        for (long j = 0; j < n; j++)
            bytes[j] = (uint8_t)(int32_t)((row[j] - from) * inverse + 0.5f);
        new_scale[i] = step;
        new_low[i] = from;
    }
}

/* For each row: LayerNorm(products·scale + bias + low·sums + residual) as floats and as bytes around 128. */
TARGET void NAME(norm_rows)(const float *products, long rows, long n, const float *scale, const float *low,
                            const float *sums, const float *bias, const float *residual, const float *weight,
                            const float *norm_bias, float epsilon, float *output, uint8_t *bytes, float *new_scale) {
    for (long i = 0; i < rows; i++, products += n, residual += n, output += n, bytes += n) {
        float *restrict row = output;
        NAME(scaled)(row, products, n, scale[i], low ? low[i] : 0, sums, bias);
        float sum = 0, squares = 0;
        for (long j = 0; j < n; j++) {
            row[j] += residual[j];
            sum += row[j];
        }
        float mean = sum / (float)n;
        for (long j = 0; j < n; j++)
            squares += (row[j] - mean) * (row[j] - mean);
        float factor = 1.0f / sqrtf(squares / (float)n + epsilon);
        for (long j = 0; j < n; j++)
            row[j] = (row[j] - mean) * factor * weight[j] + norm_bias[j];
        new_scale[i] = NAME(centred)(row, n, bytes);
    }
}

/* c (4, 16·count) = a (4, depth) · b (depth, 16·count), the rows of each `ld` numbers apart. */
INLINE void NAME(block)(const float *a, long lda, const float *b, long ldb, float *c, long ldc, long depth,
                        const int count) {
    vector sums[4][WIDE];
    for (int i = 0; i < 4; i++)
        for (int v = 0; v < count; v++)
            sums[i][v] = (vector){0};
    for (long k = 0; k < depth; k++, b += ldb)
        for (int i = 0; i < 4; i++)
            for (int v = 0; v < count; v++)
                sums[i][v] += a[i * lda + k] * *(const loaded *)(b + 16 * v);
    for (int i = 0; i < 4; i++)
        for (int v = 0; v < count; v++)
            *(loaded *)(c + i * ldc + 16 * v) = sums[i][v];
}

INLINE void NAME(product)(const float *a, long lda, const float *b, long ldb, float *c, long ldc, long depth,
                          long width) {
    long at = 0;
    for (; at + 16 * WIDE <= width; at += 16 * WIDE)
        NAME(block)(a, lda, b + at, ldb, c + at, ldc, depth, WIDE);
#if WIDE > 2
    if (width - at == 48)
        NAME(block)(a, lda, b + at, ldb, c + at, ldc, depth, 3);
    if (width - at == 32)
        NAME(block)(a, lda, b + at, ldb, c + at, ldc, depth, 2);
#endif
    if (width - at == 16)
        NAME(block)(a, lda, b + at, ldb, c + at, ldc, depth, 1);
}

/* Attention of sequences packed one after another. `products` (tokens, 3·heads·size): queries, scaled already, keys and
   values side by side, still without their `scale` (tokens) and `bias` (3·heads·size). `bytes` (tokens, heads·size)
   around 128, with `new_scale` (tokens). */
TARGET void NAME(attention)(const float *products, const float *scale, const float *bias, const long *lengths,
                            long sequences, long heads, long size, float *scratch, uint8_t *bytes, float *new_scale) {
    long hidden = heads * size;
    for (long s = 0; s < sequences; s++) {
        long length = lengths[s], padded = (length + 15) / 16 * 16;
        float *keys = scratch, *values = keys + size * padded, *queries = values + length * size;
        float *scores = queries + 4 * size, *mixed = scores + 4 * padded, *context = mixed + 4 * size;
        for (long h = 0; h < heads; h++) {
            long query = h * size, key = query + hidden, value = key + hidden;
            for (long i = 0; i < length; i++) {
                const float *own = products + i * 3 * hidden;
                NAME(scaled)(mixed, own + key, size, scale[i], 0, NULL, bias + key);
                NAME(scaled)(values + i * size, own + value, size, scale[i], 0, NULL, bias + value);
                for (long d = 0; d < size; d++)
                    keys[d * padded + i] = mixed[d];
            }
            for (long d = 0; d < size; d++)
                for (long i = length; i < padded; i++)
                    keys[d * padded + i] = 0;
            for (long first = 0; first < length; first += 4) {
                for (long i = 0; i < 4; i++) { /* the last row again, where there are fewer than 4 */
                    long from = first + i < length ? first + i : length - 1;
                    NAME(scaled)(queries + i * size, products + from * 3 * hidden + query, size, scale[from], 0, NULL,
                                 bias + query);
                }
                NAME(product)(queries, size, keys, padded, scores, padded, size, padded);
                float inverse[4];
                for (long i = 0; i < 4; i++) {
                    float *restrict row = scores + i * padded;
                    int32_t top = INT32_MIN;
                    for (long j = 0; j < length; j++) {
                        int32_t bits = NAME(ordered)(row[j]);
                        top = bits > top ? bits : top;
                    }
                    float most = NAME(unordered)(top), sum = 0;
                    for (long j = 0; j < padded; j += 16)
                        *(loaded *)(row + j) = NAME(exponential)(*(loaded *)(row + j) - most);
                    for (long j = 0; j < length; j++)
                        sum += row[j];
                    inverse[i] = 1.0f / sum;
                }
                NAME(product)(scores, padded, values, size, mixed, size, length, size);
                for (long i = 0; i < 4 && first + i < length; i++)
                    for (long d = 0; d < size; d++)
                        context[(first + i) * hidden + query + d] = mixed[i * size + d] * inverse[i];
            }
        }
        for (long i = 0; i < length; i++)
            new_scale[i] = NAME(centred)(context + i * hidden, hidden, bytes + i * hidden);
        products += length * 3 * hidden;
        scale += length;
        bytes += length * hidden;
        new_scale += length;
    }
}

#undef INLINE
