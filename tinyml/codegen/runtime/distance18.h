/* The sum of absolute differences of x, n > 0 numbers, from the point at *p; steps *p past it. */
static ${sum} ${function}(const int8_t **p, const int8_t *x, ${count} n)
{
    ${sum} sum = 0;
#if defined(__AVR__)
    int8_t a, b, zero = 0;
    __asm__("1: lpm %[a], Z+\n\t"
            "ld %[b], X+\n\t"
            "sub %[b], %[a]\n\t"
            "brge 2f\n\t"
            "neg %[b]\n\t"
            "2: add %A[sum], %[b]\n\t" /* from 0 to 255 in either case */
            "adc %B[sum], %[zero]\n\t"
            ${carry}
            "${decrement}\n\t"
            "brne 1b"
            : [sum] "+r"(sum), "+z"(*p), "+x"(x), [n] "+${counter}"(n), [a] "=&r"(a), [b] "=&r"(b)
            : [zero] "r"(zero)
            : "memory");
#else
    do {
        const int16_t d = (int16_t)((int16_t)*x++ - (int16_t)${next}(p));
        sum = (${sum})(d < 0 ? sum - d : sum + d);
    } while (--n > 0);
#endif
    return sum;
}
