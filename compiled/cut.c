#include "cut.h"

#include <string.h>

#define DATA "\"data\":["
#define TEXTS_OF_A_LEVEL 4
#define DIGITS 18

static int begins(const char *at, const char *end, const char *with)
{
    size_t length = strlen(with);
    return (size_t)(end - at) >= length && memcmp(at, with, length) == 0;
}

const char *cut_data(const char *text, const char *end)
{
    for (const char *at = text; at < end; at++) {
        if ((at = memchr(at, DATA[0], (size_t)(end - at))) == NULL) {
            return NULL;
        }
        if (begins(at, end, DATA)) {
            return at;
        }
    }
    return NULL;
}

static int is_digit(char character)
{
    return character >= '0' && character <= '9';
}

static int is_word(char character)
{
    return is_digit(character) || (character >= 'a' && character <= 'z') || (character >= 'A' && character <= 'Z') ||
           character == '_';
}

/* Pass one level of four texts of digits and points; return what follows it, or NULL. */
static const char *level_end(const char *at, const char *end)
{
    if (at == end || *at++ != '[') {
        return NULL;
    }
    for (int i = 0; i < TEXTS_OF_A_LEVEL; i++) {
        if (i > 0 && (at == end || *at++ != ',')) {
            return NULL;
        }
        if (at == end || *at++ != '"') {
            return NULL;
        }
        while (at < end && *at >= '.' && *at <= '9') {
            at++;
        }
        if (at == end || *at++ != '"') {
            return NULL;
        }
    }
    return at < end && *at == ']' ? at + 1 : NULL;
}

static const char *side_end(const char *at, const char *end)
{
    if (at == end || *at++ != '[') {
        return NULL;
    }
    if (at < end && *at == ']') {
        return at + 1;
    }
    while ((at = level_end(at, end)) != NULL && at < end && *at == ',') {
        at++;
    }
    return at != NULL && at < end && *at == ']' ? at + 1 : NULL;
}

/* Read a name with its colon. */
static const char *name_end(const char *at, const char *end, Text *name)
{
    if (at == end || *at++ != '"') {
        return NULL;
    }
    name->at = at;
    while (at < end && is_word(*at)) {
        at++;
    }
    name->length = (size_t)(at - name->at);
    return name->length > 0 && begins(at, end, "\":") ? at + 2 : NULL;
}

/* Read text without escapes, in ASCII, or an integer as JSON writes it. */
static const char *value_end(const char *at, const char *end, Value *value)
{
    if (at == end) {
        return NULL;
    }
    value->quoted = *at == '"';
    at += value->quoted;
    value->value.at = at;
    if (value->quoted) {
        while (at < end && *at != '"' && *at != '\\' && (signed char)*at >= ' ') {
            at++;
        }
        value->value.length = (size_t)(at - value->value.at);
        return at < end && *at == '"' ? at + 1 : NULL;
    }
    at += *at == '-';
    const char *digits = at;
    while (at < end && is_digit(*at)) {
        at++;
    }
    value->value.length = (size_t)(at - value->value.at);
    // JSON has no 007, -0 is none of its integers, and one that is endless is none of any reader's.
    return at == digits || at - digits > DIGITS || (*digits == '0' && value->value.length > 1) ? NULL : at;
}

static int is_name(const Text *name, const char *as)
{
    return name->length == strlen(as) && memcmp(name->at, as, name->length) == 0;
}

/* Remember a value that is looked for; return 0 where it came before. */
static int keep(Cut *cut, const Text names[FIELDS], const Text *name, const Value *value)
{
    for (int i = 0; i < FIELDS; i++) {
        if (names[i].length == name->length && memcmp(names[i].at, name->at, name->length) == 0) {
            if (cut->values[i].value.at != NULL) {
                return 0;
            }
            cut->values[i] = *value;
            return 1;
        }
    }
    return 1;
}

/* Read both sides, from the bracket of the first on. */
static const char *sides_end(const char *at, const char *end, Cut *cut)
{
    const char *begin = at;
    if ((at = side_end(at, end)) == NULL) {
        return NULL;
    }
    cut->asks = (Text){begin, (size_t)(at - begin)};
    if (!begins(at, end, ",\"bids\":")) {
        return NULL;
    }
    begin = at += strlen(",\"bids\":");
    if ((at = side_end(at, end)) == NULL) {
        return NULL;
    }
    cut->bids = (Text){begin, (size_t)(at - begin)};
    return at;
}

int cut_read(const char *at, const char *end, const Text names[FIELDS], Cut *cut)
{
    memset(cut, 0, sizeof(*cut));
    at += strlen(DATA);
    if (at >= end || *at++ != '{') {
        return 0;
    }
    for (;;) {
        Text name;
        Value value;
        if ((at = name_end(at, end, &name)) == NULL) {
            return 0;
        }
        if (is_name(&name, "asks") && cut->asks.at == NULL) {
            if ((at = sides_end(at, end, cut)) == NULL || at == end || *at != ',') {
                return 0;
            }
        } else if (is_name(&name, "asks") || is_name(&name, "bids") || (at = value_end(at, end, &value)) == NULL ||
                   !keep(cut, names, &name, &value)) {
            return 0;
        }
        if (at < end && *at == '}') {
            return cut->asks.at != NULL && end - at == 3 && memcmp(at, "}]}", 3) == 0;
        }
        if (at == end || *at++ != ',') {
            return 0;
        }
    }
}

/* -- values */

static int number(const char *at, size_t length, long long *sum)
{
    *sum = 0;
    for (size_t i = 0; i < length; i++) {
        if (!is_digit(at[i])) {
            return 0;
        }
        *sum = *sum * 10 + (at[i] - '0');
    }
    return length > 0;
}

int cut_integer(const Value *value, long long *integer)
{
    size_t minus = value->value.length > 0 && value->value.at[0] == '-';
    if (value->value.length - minus > DIGITS || !number(value->value.at + minus, value->value.length - minus, integer)) {
        return 0;
    }
    if (minus) {
        *integer = -*integer;
    }
    return 1;
}

/* Days from 1970 to a day of the calendar that is in use since 1582, and is taken to be older here. */
static long long days(long long year, long long month, long long day)
{
    year -= month <= 2;
    long long era = year / 400, of_era = year % 400;
    long long of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    return era * 146097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719468;
}

static int days_of(long long year, long long month)
{
    static const int DAYS[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return DAYS[month - 1] + (month == 2 && leap);
}

int cut_instant(const Value *value, long long *ms)
{
    static const char FORM[] = "0000-00-00T00:00:00.000Z";
    const char *at = value->value.at;
    if (!value->quoted || value->value.length != strlen(FORM)) {
        return 0;
    }
    for (size_t i = 0; i < strlen(FORM); i++) {
        if (FORM[i] == '0' ? !is_digit(at[i]) : at[i] != FORM[i]) {
            return 0;
        }
    }
    long long year, month, day, hour, minute, second, rest;
    number(at, 4, &year);
    number(at + 5, 2, &month);
    number(at + 8, 2, &day);
    number(at + 11, 2, &hour);
    number(at + 14, 2, &minute);
    number(at + 17, 2, &second);
    number(at + 20, 3, &rest);
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_of(year, month) || hour > 23 || minute > 59 ||
        second > 59) {
        return 0;
    }
    *ms = (((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second) * 1000 + rest;
    return 1;
}
