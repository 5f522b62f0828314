/* sum + w[0] x[g[0]] + w[1] x[g[0] + g[1]] + ... over n entries; steps *w and *g past the row. */
static ${sum} ${function}(${sum} sum, const int8_t **w, const uint8_t **g, const ${x} *x, ${count} n)
{
#if defined(__AVR_HAVE_MUL__)
    const int8_t *weight = *w;
    const uint8_t *gap = *g;
    int8_t a, b, sign = 0, zero = 0;
    if (n > 0)
        __asm__("1: movw r30, %[gap]\n\t"
                "lpm %[b], Z+\n\t"
                "movw %[gap], r30\n\t"
                "movw r30, %[weight]\n\t"
                "lpm %[a], Z+\n\t"
                "movw %[weight], r30\n\t"
                "add r26, %[b]\n\t"
                "adc r27, %[zero]\n\t"
                "ld %[b], X\n\t"
                "${mul} %[a], %[b]\n\t"
                "sbc %[sign], %[sign]\n\t" /* carry: the product is negative */
                "add %A[sum], r0\n\t"
                "adc %B[sum], r1\n\t"
                ${carry}
                "${decrement}\n\t"
                "brne 1b\n\t"
                "clr __zero_reg__"
                : [sum] "+r"(sum), [weight] "+l"(weight), [gap] "+l"(gap), "+x"(x),
                  [n] "+${counter}"(n), [a] "=&a"(a), [b] "=&a"(b), [sign] "+r"(sign),
                  [zero] "+r"(zero)
                :
                : "r0", "r30", "r31", "memory");
    *w = weight;
    *g = gap;
#else
    for (; n > 0; n--) {
        x += ${next_gap}(g);
        sum = (${sum})(sum + (int16_t)((int16_t)${next}(w) * (int16_t)*x));
    }
#endif
    return sum;
}
