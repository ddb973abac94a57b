/* okstream._compiled.token: whose message it is, from a look at it; see `route` of okstream.dialects.okex_v3. */
#include "rules.h"

#include <string.h>

/* Where the first quote of a head may stand. */
#define HEAD_FROM 10
#define HEAD_TO 50

typedef struct {
    const char *at;
    size_t length;
} Text;

/* Find the only value in `text` that `name` stands before; return whether there is one, without escapes. */
static int only_value(const char *text, const char *end, const char *name, size_t length, Text *value)
{
    const char *found = memmem(text, (size_t)(end - text), name, length);
    if (found == NULL) {
        return 0;
    }
    value->at = found + length;
    if (memmem(found + 1, (size_t)(end - found - 1), name, length) != NULL) {
        return 0;
    }
    const char *quote = memchr(value->at, '"', (size_t)(end - value->at));
    if (quote == NULL || memchr(value->at, '\\', (size_t)(quote - value->at)) != NULL) {
        return 0;
    }
    value->length = (size_t)(quote - value->at);
    return 1;
}

/* Return whether `text` begins with one of `heads`, up to a quote, or -1 with an exception set. */
static int known_head(const char *text, size_t length, PyObject *heads, size_t *head_length)
{
    size_t looked = length < HEAD_TO ? length : HEAD_TO;
    const char *quote = looked > HEAD_FROM ? memchr(text + HEAD_FROM, '"', looked - HEAD_FROM) : NULL;
    if (quote == NULL) {
        return 0;
    }
    *head_length = (size_t)(quote - text);
    PyObject *head = PyBytes_FromStringAndSize(text, quote - text);
    int known = head == NULL ? -1 : PySet_Contains(heads, head);
    Py_XDECREF(head);
    return known;
}

PyObject *token(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    if (count != 3 || !PyBytes_Check(args[0]) || !PyFrozenSet_CheckExact(args[1]) || !PyBytes_Check(args[2])) {
        PyErr_SetString(PyExc_TypeError, "a message, a frozen set of heads and a name are wanted");
        return NULL;
    }
    const char *text = PyBytes_AS_STRING(args[0]), *end = text + PyBytes_GET_SIZE(args[0]);
    size_t head;
    Text value;
    if (!only_value(text, end, PyBytes_AS_STRING(args[2]), (size_t)PyBytes_GET_SIZE(args[2]), &value)) {
        Py_RETURN_NONE;
    }
    int known = known_head(text, (size_t)(end - text), args[1], &head);
    if (known <= 0) {
        return known < 0 ? NULL : Py_NewRef(Py_None);
    }
    size_t length = head - HEAD_FROM;
    PyObject *made = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(length + 1 + value.length));
    if (made != NULL) {
        char *to = PyBytes_AS_STRING(made);
        memcpy(to, text + HEAD_FROM, length);
        to[length] = ':';
        memcpy(to + length + 1, value.at, value.length);
    }
    return made;
}
