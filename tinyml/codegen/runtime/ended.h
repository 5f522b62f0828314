/* Whether all values of a time step are missing. */
static uint8_t ${function}(const ${type} *x)
{
    for (${index} i = 0; i < ${width}; i++)
        if (x[i] != ${missing})
            return 0;
    return 1;
}
