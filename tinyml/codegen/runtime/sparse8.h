/* sum + w[0] x[c[0]] + ... + w[n-1] x[c[n-1]]; steps *w and *c past the row. */
static ${sum} ${function}(${sum} sum, const int8_t **w, const uint8_t **c, const ${x} *x, ${count} n)
{
#if defined(__AVR_HAVE_MUL__)
    const int8_t *row = *w;
    const uint8_t *column = *c;
    int8_t a, b, sign = 0;
    if (n > 0)
        __asm__("1: movw r30, %[column]\n\t"
                "lpm %[b], Z+\n\t"
                "movw %[column], r30\n\t"
                "movw r30, %[row]\n\t"
                "lpm %[a], Z+\n\t"
                "movw %[row], r30\n\t"
                "movw r26, %[x]\n\t"
                "add r26, %[b]\n\t"
                "adc r27, __zero_reg__\n\t"
                "ld %[b], X\n\t"
                "${mul} %[a], %[b]\n\t"
                "sbc %[sign], %[sign]\n\t" /* carry: the product is negative */
                "add %A[sum], r0\n\t"
                "adc %B[sum], r1\n\t"
                ${carry}
                "clr __zero_reg__\n\t"
                "dec %[n]\n\t"
                "brne 1b"
                : [sum] "+r"(sum), [row] "+r"(row), [column] "+r"(column), [n] "+r"(n),
                  [a] "=&a"(a), [b] "=&a"(b), [sign] "+r"(sign)
                : [x] "r"(x)
                : "r0", "r26", "r27", "r30", "r31", "memory");
    *w = row;
    *c = column;
#else
    for (; n > 0; n--)
        sum = (${sum})(sum + (int16_t)((int16_t)${next}(w) * (int16_t)x[${next_column}(c)]));
#endif
    return sum;
}
