/* sum + w[0] x[g[0]] + w[1] x[g[0] + g[1]] + ... over n entries; steps *w and *g past the row. */
static ${sum} ${function}(${sum} sum, const ${weight} **w, const uint8_t **g, const ${x} *x, ${count} n)
{
    for (; n > 0; n--) {
        x += ${next_gap}(g);
        sum = (${sum})(sum + (${product})((${product})${next}(w) * (${product})*x));
    }
    return sum;
}
