/* The levels of one side of a book, in order. */
#ifndef OKSTREAM_SIDE_H
#define OKSTREAM_SIDE_H

#include "rows.h"

#define CHECKED 25
#define MOST_LEVELS 1000 /* as in levels.py */

/* One level, a cache line. Its text is `:price:rest`: what the checksum takes of it stands together. */
#define INLINE_TEXT 52
typedef struct {
    uint32_t price_length;
    uint32_t size_length;
    uint32_t rest_length;
    union {
        char here[INLINE_TEXT];
        uint32_t next; /* of those that are free */
    } text;
} Cell;

/* `keys` ascend and the best is the last, so that little is moved where most happens; `places` are their cells.
   What stood at a rank before `fresh` has been in the last checksum. */
typedef struct {
    double sign;
    double *keys;
    uint32_t *places;
    Cell *cells;
    uint32_t count, room;
    uint32_t used, free;
    uint32_t fresh;
} Side;

void side_begin(Side *side, double sign);
void side_clear(Side *side);

/* Take rows in turn; return 0, or -1 with an exception set: then the side may be empty. */
int side_apply(Side *side, const Rows *rows, const Rules *rules);

/* Return the level at `rank`, of which there is one; the best has rank 0. */
const Cell *side_level(const Side *side, uint32_t rank);

const char *cell_text(const Cell *cell);

/* Return how many bytes one side takes beyond itself. */
size_t side_size(const Side *side);

#endif
