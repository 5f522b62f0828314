/* The sum over n > 0 numbers of the squares of what they differ from *p, times *s; steps both. */
static ${sum} ${function}(const ${point} **p, const ${scale} **s, const ${x} *x, ${count} n)
{
    ${sum} sum = 0;
    do {
        const ${wide} d = ${difference};
        ${product} t = ${scaled};
        if (t < ${low}) t = ${low};
        if (t > ${high}) t = ${high};
        const int16_t e = (int16_t)t;
        sum = (${sum})(sum + (int32_t)((int32_t)e * (int32_t)e));
    } while (--n > 0);
    return sum;
}
