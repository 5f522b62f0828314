/* The sum over n > 0 numbers of the squares of what they differ from a point, times a scale; steps *r. */
static ${sum} ${function}(const ${record} **r, const ${x} *x, ${count} n)
{
    ${sum} sum = 0;
    do {
        const ${record} p = ${next}(r);
        ${scale}
        ${difference}
        const int16_t t = (int16_t)${scaled};
        sum = (${sum})(sum + (${sum})((int32_t)t * (int32_t)t));
    } while (--n > 0);
    return sum;
}
