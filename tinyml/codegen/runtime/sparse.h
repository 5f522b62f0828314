/* sum + w[0] x[c[0]] + ... + w[n-1] x[c[n-1]]; steps *w and *c past the row. */
static ${sum} ${function}(${sum} sum, const ${weight} **w, const ${column} **c, const ${x} *x, ${count} n)
{
    for (; n > 0; n--)
        sum = (${sum})(sum + (${product})((${product})${next}(w) * (${product})x[${next_column}(c)]));
    return sum;
}
