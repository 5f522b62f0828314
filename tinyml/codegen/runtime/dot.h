/* sum + w[0] x[0] + ... + w[n-1] x[n-1], n > 0; steps *w past the row. */
static ${sum} ${function}(${sum} sum, const ${weight} **w, const ${x} *x, ${count} n)
{
    do {
        sum = (${sum})(sum + (${product})((${product})${next}(w) * (${product})*x++));
    } while (--n > 0);
    return sum;
}
