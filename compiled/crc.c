#include "crc.h"

#define POLYNOMIAL 0xEDB88320u
#define STRIDE 8

/* What a byte does to the state once it and so many bytes behind it have passed. */
static uint32_t passed[STRIDE][256];

void crc_prepare(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t state = byte;
        for (int bit = 0; bit < 8; bit++) {
            state = state >> 1 ^ (state & 1 ? POLYNOMIAL : 0);
        }
        passed[0][byte] = state;
    }
    for (int behind = 1; behind < STRIDE; behind++) {
        for (uint32_t byte = 0; byte < 256; byte++) {
            uint32_t before = passed[behind - 1][byte];
            passed[behind][byte] = before >> 8 ^ passed[0][before & 255];
        }
    }
}

static uint32_t word(const unsigned char *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

uint32_t crc_more(uint32_t state, const char *text, size_t length)
{
    const unsigned char *at = (const unsigned char *)text;
    for (; length >= STRIDE; length -= STRIDE, at += STRIDE) {
        uint32_t low = word(at) ^ state, high = word(at + 4);
        state = passed[7][low & 255] ^ passed[6][low >> 8 & 255] ^ passed[5][low >> 16 & 255] ^ passed[4][low >> 24] ^
                passed[3][high & 255] ^ passed[2][high >> 8 & 255] ^ passed[1][high >> 16 & 255] ^ passed[0][high >> 24];
    }
    for (; length > 0; length--) {
        state = state >> 8 ^ passed[0][(state ^ *at++) & 255];
    }
    return state;
}
