/* The message of one book, taken apart into the text of its levels and the few values around them. */
#ifndef OKSTREAM_CUT_H
#define OKSTREAM_CUT_H

#include "rules.h"

#define FIELDS 5

/* What is looked for beside the sides: names in the order of `enum field`, NULL where the dialect has no such. */
enum field { TIME, INSTRUMENT, SEQUENCE, PREVIOUS, CHECKSUM };

typedef struct {
    const char *at;
    size_t length;
} Text;

typedef struct {
    Text value; /* digits, or what stands between quotes; `at` NULL where the message has none */
    int quoted;
} Value;

typedef struct {
    Text asks, bids;
    Value values[FIELDS];
} Cut;

/* Where `"data":[` begins in `text`, or NULL. */
const char *cut_data(const char *text, const char *end);

/* Take apart what begins with `"data":[`; return whether it has the usual form. */
int cut_read(const char *at, const char *end, const Text names[FIELDS], Cut *cut);

/* Make an integer of a value that is one, or text of digits; return whether it is, in 18 digits. */
int cut_integer(const Value *value, long long *number);

/* Make ms since the epoch of text like 2020-07-24T09:41:05.316Z; return whether it is one. */
int cut_instant(const Value *value, long long *ms);

#endif
