/* CRC-32 as in zlib, which may not be there to be compiled against. */
#ifndef OKSTREAM_CRC_H
#define OKSTREAM_CRC_H

#include <stddef.h>
#include <stdint.h>

#define CRC_BEGIN UINT32_MAX

void crc_prepare(void);

/* Return the state after `length` further bytes; the sum is its complement. */
uint32_t crc_more(uint32_t state, const char *text, size_t length);

#endif
