static inline ${type} ${name}_read_${short}(const ${type} *p)
{
#if defined(__AVR__)
    return (${type})pgm_read_${access}(p);
#else
    return *p;
#endif
}
