/* The squared distance of x, n > 0 numbers, to the point at *p; steps *p past it. */
static ${sum} ${function}(const ${point} **p, const ${x} *x, ${count} n)
{
    ${sum} sum = 0;
    do {
        ${wide} d = ${difference};
        ${clip}
        const ${narrow} e = (${narrow})d;
        sum = (${sum})(sum + (${square})((${square})e * (${square})e));
    } while (--n > 0);
    return sum;
}
