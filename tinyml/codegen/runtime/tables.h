#if defined(__AVR__)
#include <avr/pgmspace.h>
#define ${NAME}_TABLE PROGMEM
#else
#define ${NAME}_TABLE
#endif
