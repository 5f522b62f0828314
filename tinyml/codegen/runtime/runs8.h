/* sum + the products of w and x over n runs, each told by its distance from the last and its length; steps *w, *r. */
static ${sum} ${function}(${sum} sum, const int8_t **w, const uint8_t **r, const ${x} *x, ${count} n)
{
    for (; n > 0; n--) {
        x += ${next_run}(r);
        uint8_t m = ${next_run}(r);
#if defined(__AVR_HAVE_MUL__)
        int8_t a, b, sign = 0;
        if (m > 0)
            __asm__("1: lpm %[a], Z+\n\t"
                    "ld %[b], X+\n\t"
                    "${mul} %[a], %[b]\n\t"
                    "sbc %[sign], %[sign]\n\t" /* the carry: the product is negative */
                    "add %A[sum], r0\n\t"
                    "adc %B[sum], r1\n\t"
                    ${carry}
                    "dec %[m]\n\t"
                    "brne 1b\n\t"
                    "clr __zero_reg__"
                    : [sum] "+r"(sum), "+z"(*w), "+x"(x), [m] "+r"(m), [a] "=&a"(a),
                      [b] "=&a"(b), [sign] "+r"(sign)
                    :
                    : "r0", "memory");
#else
        for (; m > 0; m--) sum = (${sum})(sum + (int16_t)((int16_t)${next}(w) * (int16_t)*x++));
#endif
    }
    return sum;
}
