/* Whether all values of a time step are missing: the sequence has ended before it. */
${linkage}uint8_t ${name}_ended(const ${type} *x)
{
    for (${index} i = 0; i < ${width}; i++)
        if (x[i] != ${missing})
            return 0;
    return 1;
}
