/* sum + the products of w and x over n runs, each told by its distance from the last and its length; steps *w, *r. */
static ${sum} ${function}(${sum} sum, const ${weight} **w, const uint8_t **r, const ${x} *x, ${count} n)
{
    for (; n > 0; n--) {
        x += ${next_run}(r);
        uint8_t m = ${next_run}(r);
        for (; m > 0; m--) sum = (${sum})(sum + (${product})((${product})${next}(w) * (${product})*x++));
    }
    return sum;
}
