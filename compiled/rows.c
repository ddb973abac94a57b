#include "rows.h"

#include <float.h>
#include <math.h>
#include <string.h>

#if FLT_EVAL_METHOD == 0
#define EXACT_DIGITS 15 /* so many digits are a double exactly, and so is a power of ten up to 22 */
#else
#define EXACT_DIGITS 0 /* a quotient may be rounded twice here: all numbers are left to Python */
#endif
#define SIZE_DIGITS 40 /* with so few before and behind the point no size is beyond a double, nor below it */

#define POWERS 22

static const double TENTHS[POWERS + 1] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                                          1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

void rows_begin(Rows *rows)
{
    rows->at = rows->few;
    rows->count = 0;
    rows->room = FEW_ROWS;
    rows->held = NULL;
}

void rows_end(Rows *rows)
{
    if (rows->at != rows->few) {
        PyMem_Free(rows->at);
    }
    Py_CLEAR(rows->held);
}

static Row *one_more(Rows *rows)
{
    if (rows->count == rows->room) {
        size_t room = rows->room * 2;
        if (room > PY_SSIZE_T_MAX / sizeof(Row)) {
            PyErr_NoMemory();
            return NULL;
        }
        Row *moved = PyMem_Malloc(room * sizeof(Row));
        if (moved == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        memcpy(moved, rows->at, rows->count * sizeof(Row));
        if (rows->at != rows->few) {
            PyMem_Free(rows->at);
        }
        rows->at = moved;
        rows->room = room;
    }
    return &rows->at[rows->count++];
}

/* -- numbers */

static int is_digit(char character)
{
    return character >= '0' && character <= '9';
}

/* Read a plain decimal from `*text` on; return whether it is one that a double can be made of exactly. */
static int plain_number(const char **text, const char *end, double *number)
{
    const char *at = *text, *point = NULL;
    uint64_t digits = 0;
    int count = 0, first = 1;
    for (; at < end; at++) {
        if (is_digit(*at)) {
            digits = digits * 10 + (uint64_t)(*at - '0');
            count += !first || *at != '0';
            first = first && *at == '0';
            if (count > EXACT_DIGITS) {
                return 0;
            }
        } else if (*at == '.' && point == NULL) {
            point = at;
        } else {
            break;
        }
    }
    ptrdiff_t behind = point == NULL ? 0 : at - point - 1;
    if (at - *text == (point != NULL) || behind > POWERS) {
        return 0;
    }
    *number = (double)digits / TENTHS[behind];
    *text = at;
    return 1;
}

/* Return whether a price that a double makes zero, infinite or nan is a number all the same: 0, in any spelling. */
static int usable(double number, const char *price, uint32_t length, const Rules *rules)
{
    return (number != 0.0 && isfinite(number)) || price_same("0", 1, price, length, rules) == 0;
}

/* Make a number of a price as Python does. */
static int any_number(const char *price, uint32_t length, double *number)
{
    PyObject *text = PyUnicode_DecodeUTF8(price, (Py_ssize_t)length, NULL);
    if (text == NULL) {
        return -1;
    }
    PyObject *value = PyFloat_FromString(text);
    Py_DECREF(text);
    if (value == NULL) {
        return -1;
    }
    *number = PyFloat_AS_DOUBLE(value);
    Py_DECREF(value);
    return 0;
}

/* A plain decimal without what says nothing: where its whole part and its fraction begin, and how long they are. */
typedef struct {
    const char *whole, *fraction;
    size_t wholes, fractions;
} Plain;

static int plain_parts(const char *text, uint32_t length, Plain *parts)
{
    const char *end = text + length;
    while (text < end && *text == '0') {
        text++;
    }
    parts->whole = text;
    while (text < end && is_digit(*text)) {
        text++;
    }
    parts->wholes = (size_t)(text - parts->whole);
    parts->fraction = text < end && *text == '.' ? ++text : text;
    while (text < end && is_digit(*text)) {
        text++;
    }
    if (text != end) {
        return 0;
    }
    while (text > parts->fraction && text[-1] == '0') {
        text--;
    }
    parts->fractions = (size_t)(text - parts->fraction);
    return 1;
}

int price_same(const char *known, uint32_t known_length, const char *price, uint32_t length, const Rules *rules)
{
    Plain one, other;
    if (plain_parts(known, known_length, &one) && plain_parts(price, length, &other) && one.wholes == other.wholes &&
        one.fractions == other.fractions && memcmp(one.whole, other.whole, one.wholes) == 0 &&
        memcmp(one.fraction, other.fraction, one.fractions) == 0) {
        return 0;
    }
    PyObject *said =
        PyObject_CallFunction(rules->same, "y#y#", known, (Py_ssize_t)known_length, price, (Py_ssize_t)length);
    Py_XDECREF(said);
    return said == NULL ? -1 : 0;
}

/* -- JSON as the exchange writes it */

/* Read a size that is a plain decimal, up to its closing quote; return what stands there, NULL if it is another. */
static const char *size_end(const char *at, const char *end, int *zero)
{
    const char *begin = at;
    int nothing = 1;
    for (; at < end && is_digit(*at); at++) {
        nothing &= *at == '0';
    }
    if (at == begin || at - begin > SIZE_DIGITS) {
        return NULL;
    }
    if (at < end && *at == '.') {
        begin = ++at;
        for (; at < end && is_digit(*at); at++) {
            nothing &= *at == '0';
        }
        if (at - begin > SIZE_DIGITS) {
            return NULL;
        }
    }
    *zero = nothing;
    return at < end && *at == '"' ? at : NULL;
}

/* Pass the columns behind the size; return where the row's bracket closes, NULL if there is more to them. */
static const char *columns_end(const char *at, const char *end)
{
    while (end - at > 2 && at[0] == ',' && at[1] == '"') {
        for (at += 2; at < end && *at != '"'; at++) {
            // What is escaped, or might be, is for Python; so are brackets, which it counts.
            if (*at == '\\' || *at == '[' || *at == ']' || (unsigned char)*at < ' ') {
                return NULL;
            }
        }
        if (at++ == end) {
            return NULL;
        }
    }
    return at < end && *at == ']' ? at : NULL;
}

/* Read one row from its bracket on; return what follows it. NULL: it is no plain row, or an exception is set. */
static const char *plain_row(const char *at, const char *end, Row *row)
{
    const char *begin = at;
    if (end - at < 9 || at[0] != '[' || at[1] != '"') {
        return NULL;
    }
    const char *price = at += 2;
    if (!plain_number(&at, end, &row->number) || end - at < 4 || memcmp(at, "\",\"", 3) != 0) {
        return NULL;
    }
    row->price = price;
    row->price_length = (uint32_t)(at - price);
    int zero = 0;
    const char *rest = at += 3;
    if ((at = size_end(at, end, &zero)) == NULL) {
        return NULL;
    }
    row->rest = rest;
    row->size_length = (uint32_t)(at - rest);
    if ((at = columns_end(at + 1, end)) == NULL) {
        return NULL;
    }
    row->rest_length = zero ? 0 : (uint32_t)(at - rest);
    return ++at - begin > ROW_BYTES ? NULL : at;
}

/* Read `text`; return 1, or 0 where it is not as the exchange writes it, or -1 with an exception set. */
static int read_plain(Rows *rows, PyObject *text)
{
    const char *at = PyBytes_AS_STRING(text), *end = at + PyBytes_GET_SIZE(text);
    if (end - at < 2 || end - at > SIDE_BYTES || *at++ != '[' || end[-1] != ']') {
        return 0;
    }
    if (end - at == 1) {
        return 1;
    }
    for (;;) {
        Row *row = one_more(rows);
        if (row == NULL) {
            return -1;
        }
        if ((at = plain_row(at, end, row)) == NULL || at >= end) {
            return 0;
        }
        if (*at == ']') {
            return at + 1 == end;
        }
        if (*at++ != ',') {
            return 0;
        }
    }
}

/* -- everything else */

static int take_pair(Rows *rows, PyObject *pair)
{
    if (!PyTuple_Check(pair) || PyTuple_GET_SIZE(pair) != 2) {
        PyErr_SetString(PyExc_TypeError, "a level is no pair");
        return -1;
    }
    PyObject *price = PyTuple_GET_ITEM(pair, 0), *rest = PyTuple_GET_ITEM(pair, 1);
    if (!PyBytes_Check(price) || !PyBytes_Check(rest) || PyBytes_GET_SIZE(price) > ROW_BYTES ||
        PyBytes_GET_SIZE(rest) > ROW_BYTES) {
        PyErr_SetString(PyExc_TypeError, "a level is not of two texts, or too long");
        return -1;
    }
    Row *row = one_more(rows);
    if (row == NULL) {
        return -1;
    }
    row->price = PyBytes_AS_STRING(price);
    row->price_length = (uint32_t)PyBytes_GET_SIZE(price);
    row->rest = PyBytes_AS_STRING(rest);
    row->rest_length = (uint32_t)PyBytes_GET_SIZE(rest);
    const char *quote = memchr(row->rest, '"', row->rest_length);
    row->size_length = quote == NULL ? row->rest_length : (uint32_t)(quote - row->rest);
    return any_number(row->price, row->price_length, &row->number);
}

static int read_any(Rows *rows, PyObject *given, const Rules *rules)
{
    rows->count = 0;
    PyObject *pairs = PyObject_CallOneArg(rules->read, given);
    if (pairs == NULL) {
        return -1;
    }
    Py_XSETREF(rows->held, pairs);
    if (!PyList_Check(pairs)) {
        PyErr_SetString(PyExc_TypeError, "levels are no list");
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(pairs); i++) {
        if (take_pair(rows, PyList_GET_ITEM(pairs, i)) < 0) {
            return -1;
        }
    }
    return 0;
}

int rows_read(Rows *rows, PyObject *given, const Rules *rules)
{
    PyObject *text = given;
    if (!PyBytes_CheckExact(given)) {
        if ((text = rows->held = PyObject_CallOneArg(rules->dumps, given)) == NULL) {
            return -1;
        }
        if (!PyBytes_CheckExact(text)) {
            PyErr_SetString(PyExc_TypeError, "JSON is not bytes");
            return -1;
        }
    }
    int read = read_plain(rows, text);
    if (read < 0 || (read == 0 && read_any(rows, given, rules) < 0)) {
        return -1;
    }
    for (size_t i = 0; i < rows->count; i++) {
        Row *row = &rows->at[i];
        if (!usable(row->number, row->price, row->price_length, rules)) {
            return -1;
        }
    }
    return 0;
}
