static inline ${type} ${name}_next_${short}(const ${type} **p)
{
#if defined(__AVR__)
    ${type} value;
    __asm__("lpm %0, Z+" : "=r"(value), "+z"(*p));
    return value;
#else
    return *(*p)++;
#endif
}
