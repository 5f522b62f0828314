/* The squared distance of x, n > 0 numbers, to the point at *p; steps *p past it. */
static ${sum} ${function}(const int8_t **p, const int8_t *x, ${count} n)
{
    ${sum} sum = 0;
#if defined(__AVR_HAVE_MUL__)
    int8_t a, b, zero = 0;
    __asm__("1: lpm %[a], Z+\n\t"
            "ld %[b], X+\n\t"
            "sub %[b], %[a]\n\t"
            "brvs 3f\n\t"
            "2: muls %[b], %[b]\n\t"
            "add %A[sum], r0\n\t"
            "adc %B[sum], r1\n\t"
            ${carry}
            "${decrement}\n\t"
            "brne 1b\n\t"
            "rjmp 4f\n\t"
            "3: ldi %[b], 127\n\t" /* beyond a byte: saturate on the side the flags tell */
            "brmi 2b\n\t"
            "ldi %[b], -128\n\t"
            "rjmp 2b\n\t"
            "4: clr __zero_reg__"
            : [sum] "+r"(sum), "+z"(*p), "+x"(x), [n] "+${counter}"(n), [a] "=&r"(a),
              [b] "=&d"(b), [zero] "+r"(zero)
            :
            : "r0", "memory");
#else
    do {
        int16_t d = (int16_t)((int16_t)*x++ - (int16_t)${next}(p));
        if (d < -128) d = -128;
        if (d > 127) d = 127;
        sum = (${sum})(sum + (int16_t)(d * d));
    } while (--n > 0);
#endif
    return sum;
}
