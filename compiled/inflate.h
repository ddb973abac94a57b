/* Raw Deflate (RFC 1951) of a message, as a whole. */
#ifndef OKSTREAM_INFLATE_H
#define OKSTREAM_INFLATE_H

#include <stddef.h>

/* Inflate `length` bytes into `room` ones; return the length of the text. NOT_INFLATED: they are not exactly one complete
   stream, or its text does not fit. */
#define NOT_INFLATED ((size_t)-1)

size_t inflate_whole(const unsigned char *data, size_t length, unsigned char *text, size_t room);

#endif
