/* The sum of absolute differences of x, n > 0 numbers, from the point at *p; steps *p past it. */
static ${sum} ${function}(const ${point} **p, const ${x} *x, ${count} n)
{
    ${sum} sum = 0;
    do {
        const ${wide} d = ${difference};
        sum = (${sum})(d < 0 ? sum - d : sum + d);
    } while (--n > 0);
    return sum;
}
