/* The sum over n > 0 numbers of the squares of what they differ from a point, times a scale; steps *r. */
static int32_t ${function}(const uint8_t **r, const int8_t *x, ${count} n)
{
    int32_t sum = 0;
#if defined(__AVR_HAVE_MUL__)
    int8_t p, d, l, h, zero = 0;
    __asm__("1: lpm %[p], Z+\n\t"
            "ld %[d], X+\n\t"
            "sub %[d], %[p]\n\t"
            "brvs 3f\n\t"
            "2: lpm %[l], Z+\n\t"
            "lpm %[h], Z+\n\t"
            "mulsu %[d], %[l]\n\t" /* t = (d s + 128) >> 8, in l and p */
            "mov %[p], r1\n\t"
            "lsl r0\n\t"
            "adc %[p], %[zero]\n\t"
            "mulsu %[d], %[h]\n\t"
            "clr %[l]\n\t"
            "sbrc %[p], 7\n\t"
            "com %[l]\n\t"
            "add %[p], r0\n\t"
            "adc %[l], r1\n\t"
            "mul %[p], %[p]\n\t" /* t t = p p + 2 l p 2^8 + l l 2^16 */
            "add %A[sum], r0\n\t"
            "adc %B[sum], r1\n\t"
            "adc %C[sum], %[zero]\n\t"
            "adc %D[sum], %[zero]\n\t"
            "muls %[l], %[l]\n\t"
            "add %C[sum], r0\n\t"
            "adc %D[sum], r1\n\t"
            "mulsu %[l], %[p]\n\t"
            "sbc %[h], %[h]\n\t" /* the carry: the product is negative */
            "add %B[sum], r0\n\t"
            "adc %C[sum], r1\n\t"
            "adc %D[sum], %[h]\n\t"
            "add %B[sum], r0\n\t"
            "adc %C[sum], r1\n\t"
            "adc %D[sum], %[h]\n\t"
            "${decrement}\n\t"
            "brne 1b\n\t"
            "rjmp 4f\n\t"
            "3: ldi %[d], 127\n\t" /* beyond a byte: saturate on the side the flags tell */
            "brmi 2b\n\t"
            "ldi %[d], -128\n\t"
            "rjmp 2b\n\t"
            "4: clr __zero_reg__"
            : [sum] "+r"(sum), "+z"(*r), "+x"(x), [n] "+${counter}"(n), [p] "=&a"(p),
              [d] "=&a"(d), [l] "=&a"(l), [h] "=&a"(h), [zero] "+r"(zero)
            :
            : "r0", "memory");
#else
    do {
        const uint8_t p = ${next}(r);
        ${scale}
        ${difference}
        const int16_t t = (int16_t)${scaled};
        sum = (int32_t)(sum + (int32_t)((int32_t)t * (int32_t)t));
    } while (--n > 0);
#endif
    return sum;
}
