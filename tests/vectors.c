/* Recomputes a test vector of deform_conv2d, y and all gradients, and says how many elements agree:
 *     cc -o check tests/vectors.c -lm && ./check vectors/deform_conv2d-00-base-zero-float32.json
 * Exit status: 1 if one does not, and the output says which; 2 if the file cannot be read. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef double Real; /* what it computes in; float will do for cases of dtype float32 */
typedef struct { int shape[4], size; double *at; } Array; /* axes after the last have size 1 */
typedef struct { int q[2]; Real g[2], dg[2]; } Axis;      /* (4): the pixels around p, g, dg/dp */
static char text[1 << 24]; /* the file: a key stands in it once, in quotes, with ": " behind it */
static int total, agreed;  /* elements of all results */

static int numbers(const char *at, double *into, int most) { /* of "[1, 2]"; returns how many */
    int n = 0;
    char *end;
    for (at = strchr(at, '['); n < most; at = end, n++)
        if (into[n] = strtod(at + 1, &end), end == at + 1) break;
    return n;
}
static Array array(const char *name, const char *end) { /* of size 0 if the case has none */
    Array a = {{1, 1, 1, 1}, 0, NULL};
    double shape[4];
    char key[64];
    snprintf(key, sizeof key, "\"%s%s\": ", name, end);
    const char *at = strstr(text, key);
    if (!at) return a;
    for (int i = 0, axes = numbers(at, shape, 4); i < axes; i++) a.shape[i] = (int)shape[i];
    a.size = a.shape[0] * a.shape[1] * a.shape[2] * a.shape[3];
    a.at = (double *)calloc(a.size + 1, sizeof(double));
    if (numbers(strstr(at, "\"values\": "), a.at, a.size) < a.size) exit(2);
    return a;
}
static void compare(const char *name, const Real *got) { /* all between both sides is right */
    Array right = array(name, ""), left = right, bound = array(name, "_bound");
    if (!right.size) right = array(name, "_right"), left = array(name, "_left");
    for (int e = 0, wrong = 0, *s = right.shape; e < right.size; e++, total++) {
        double low = fmin(right.at[e], left.at[e]) - (bound.size ? bound.at[e] : 0);
        double high = fmax(right.at[e], left.at[e]) + (bound.size ? bound.at[e] : 0);
        if (got[e] >= low && got[e] <= high) agreed++;
        else if (!wrong++)
            printf("%s[%d, %d, %d, %d] is %.17g, expected %.17g to %.17g\n", name,
                   e / s[3] / s[2] / s[1], e / s[3] / s[2] % s[1], e / s[3] % s[2], e % s[3],
                   got[e], low, high);
    }
}
static Axis axis(Real p, int size, int dcnv1) {
    int near = dcnv1 ? p >= 0 && p < size : p >= -1 && p <= size, low = near ? (int)floor(p) : 0;
    Real slope = !(dcnv1 && low == size - 1), f = slope * (p - low); /* the edge is repeated */
    Axis a = {{low, low + 1}, {1 - f, f}, {-slope, slope}};
    for (int i = 0; i < 2; i++) /* where there is no pixel */
        if (!near || a.q[i] < 0 || a.q[i] >= size) a.q[i] = 0, a.g[i] = a.dg[i] = 0;
    return a;
}
static Real *zeros(int size) { return (Real *)calloc(size + 1, sizeof(Real)); }

int main(int argc, char **argv) {
    FILE *file = fopen(argc == 2 ? argv[1] : "", "rb");
    if (!file || !fread(text, 1, sizeof text - 1, file)) return 2;
    if (!strstr(text, "\"format\": 1,\n\"name\": \"deform_conv2d-")) return 2;
    Array x = array("x", ""), offset = array("offset", ""), weight = array("weight", "");
    Array bias = array("bias", ""), mask = array("mask", ""), grad = array("grad_output", "");
    int C = x.shape[1], H = x.shape[2], W = x.shape[3], O = weight.shape[0], I = weight.shape[1];
    int kw = weight.shape[3], K = weight.shape[2] * kw, Ho = grad.shape[2], Wo = grad.shape[3];
    int G = offset.shape[1] / (2 * K), dcnv1 = strstr(text, "\"border\": \"dcnv1\"") != NULL;
    double s[2], d[2], pad[4]; /* stride, dilation; top, bottom, left, right */
    numbers(strstr(text, "\"stride\": "), s, 2), numbers(strstr(text, "\"dilation\": "), d, 2);
    numbers(strstr(text, "\"padding\": "), pad, 4);
    Real *y = zeros(grad.size), *grad_x = zeros(x.size), *grad_offset = zeros(offset.size);
    Real *grad_weight = zeros(weight.size), *grad_bias = zeros(O), *grad_mask = zeros(offset.size);
    for (int e = 0; e < grad.size; e++) { /* y[n, o, i, j] */
        int j = e % Wo, i = e / Wo % Ho, o = e / Wo / Ho % O, n = e / Wo / Ho / O;
        Real g = grad.at[e];
        y[e] = bias.size ? bias.at[o] : 0;
        grad_bias[o] += g;
        for (int t = 0; t < I * K; t++) { /* one term of (2): tap k of channel c */
            int k = t % K, c = o / (O * I / C) * I + t / K, field = (n * G + c / (C / G)) * K + k;
            int at = (field * Ho + i) * Wo + j, dy = at + field * Ho * Wo, dx = dy + Ho * Wo;
            Axis a = axis(i * s[0] - pad[0] + k / kw * d[0] + offset.at[dy], H, dcnv1);
            Axis b = axis(j * s[1] - pad[2] + k % kw * d[1] + offset.at[dx], W, dcnv1);
            Real w = weight.at[o * I * K + t], m = mask.size ? mask.at[at] : 1, sample = 0;
            for (int corner = 0; corner < 4; corner++) { /* (3), with its gradients and (7) */
                int u = corner / 2, v = corner % 2, q = ((n * C + c) * H + a.q[u]) * W + b.q[v];
                sample += a.g[u] * b.g[v] * (Real)x.at[q];
                grad_x[q] += g * w * m * a.g[u] * b.g[v];
                grad_offset[dy] += g * w * m * a.dg[u] * b.g[v] * (Real)x.at[q];
                grad_offset[dx] += g * w * m * a.g[u] * b.dg[v] * (Real)x.at[q];
            }
            y[e] += w * m * sample;
            grad_weight[o * I * K + t] += g * m * sample;
            grad_mask[at] += g * w * sample;
        }
    }
    compare("y", y), compare("grad_offset", grad_offset), compare("grad_weight", grad_weight);
    compare("grad_x", grad_x), compare("grad_bias", grad_bias), compare("grad_mask", grad_mask);
    printf("%d of %d elements agree\n", agreed, total);
    return total ? agreed < total : 2;
}
