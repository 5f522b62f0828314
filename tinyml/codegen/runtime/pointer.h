/* An address the compiler knows nothing of: reads through it take two bytes on AVR, not four. */
static inline const ${x} *${function}(const ${x} *x)
{
#if defined(__AVR__)
    __asm__("" : "+r"(x));
#endif
    return x;
}
