/* The name of class k, for Serial.print: kept in flash on AVR. */
#if defined(ARDUINO) && defined(__cplusplus)
class __FlashStringHelper;
static inline const __FlashStringHelper *${name}_label(${type} k)
{
    return reinterpret_cast<const __FlashStringHelper *>(${name}_label_P(k));
}
#else
static inline const char *${name}_label(${type} k)
{
    return ${name}_label_P(k);
}
#endif
