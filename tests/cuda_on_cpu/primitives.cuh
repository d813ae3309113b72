// The functions of gpu/cupy_kernels/primitives.cuh in plain C++.
#pragma once

inline unsigned bits_of(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float float_of(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

inline float half_to_float(unsigned short bits) {
    const unsigned sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31, mantissa = bits & 1023;
    if (exponent == 31) return float_of(sign | 0x7f800000u | mantissa << 13);
    const float size = exponent ? ldexpf(1024 + mantissa, static_cast<int>(exponent) - 25)
                                : ldexpf(mantissa, -24);
    return sign ? -size : size;
}

inline unsigned short float_to_half(float value) {
    const unsigned short sign = bits_of(value) >> 16 & 0x8000u;
    const float size = fabsf(value);
    if (size != size) return sign | 0x7e00u;
    if (size >= 65520.0f) return sign | 0x7c00u;
    if (size < ldexpf(1, -14)) return sign | static_cast<unsigned short>(nearbyintf(ldexpf(size, 24)));
    int exponent;
    const float mantissa = nearbyintf(ldexpf(frexpf(size, &exponent), 11));  // 1024 to 2048
    return sign | static_cast<unsigned short>(((exponent + 14) << 10) + (static_cast<int>(mantissa) - 1024));
}

inline float bfloat_to_float(unsigned short bits) {
    return float_of(static_cast<unsigned>(bits) << 16);
}

inline unsigned short float_to_bfloat(float value) {
    const unsigned bits = bits_of(value);
    if (value != value) return 0x7fffu;
    return static_cast<unsigned short>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

inline void add_four(float* sum, const float (&value)[4]) {
    on_cpu::check_aligned(sum);  // red.global.add.v4.f32 faults
    for (int i = 0; i < 4; ++i) atomicAdd(sum + i, value[i]);
}
