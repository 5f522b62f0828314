/* sum + w[0] x[0] + ... + w[n-1] x[n-1] in passes of ${unroll}, passes > 0; steps *w past the row. */
static ${sum} ${function}(${sum} sum, const ${weight} **w, const ${x} *x, ${count} passes)
{
#if defined(__AVR_HAVE_MUL__)
    int8_t a, b, sign = 0;
    __asm__("1:\n\t"
            ${products}
            "${decrement}\n\t"
            "brne 1b\n\t"
            "clr __zero_reg__"
            : [sum] "+r"(sum), "+z"(*w), "+x"(x), [n] "+${counter}"(passes), [a] "=&a"(a),
              [b] "=&a"(b), [sign] "+r"(sign)
            :
            : "r0", "memory");
#else
    do {
        ${portable}
    } while (--passes > 0);
#endif
    return sum;
}
