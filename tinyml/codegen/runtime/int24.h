#if defined(__AVR__)
__extension__ typedef __int24 ${name}_int24_t;
#else
typedef int32_t ${name}_int24_t;
#endif
