/* Rows of a book as they come: JSON of one side, taken apart into prices and what follows them. */
#ifndef OKSTREAM_ROWS_H
#define OKSTREAM_ROWS_H

#include "rules.h"

#include <stddef.h>
#include <stdint.h>

/* One row. `rest` is what follows the quote that begins the size, as in `415","0","13"`; of length 0 where the level
   goes. The texts belong to the bytes that were read, or to `Rows.held`. */
typedef struct {
    double number;
    const char *price;
    const char *rest;
    uint32_t price_length;
    uint32_t size_length;
    uint32_t rest_length;
} Row;

#define ROW_BYTES 128 /* as in levels.py */
#define SIDE_BYTES 256000
#define FEW_ROWS 64

typedef struct {
    Row *at;
    size_t count;
    size_t room;
    PyObject *held;
    Row few[FEW_ROWS];
} Rows;

void rows_begin(Rows *rows);
void rows_end(Rows *rows);

/* Read `given`, a list of rows or its JSON; return 0, or -1 with an exception set. Python code may run in here. */
int rows_read(Rows *rows, PyObject *given, const Rules *rules);

/* Make sure that two prices that are one float are one number; return 0, or -1 with ValueError set. */
int price_same(const char *known, uint32_t known_length, const char *price, uint32_t length, const Rules *rules);

#endif
