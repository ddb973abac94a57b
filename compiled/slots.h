/* The slots of records, by where they stand in an object. */
#ifndef OKSTREAM_SLOTS_H
#define OKSTREAM_SLOTS_H

#include "rules.h"

/* Find the slot `name` of the class `kind`; return 0, or -1 with an exception set. */
int slot_find(PyObject *kind, const char *name, Py_ssize_t *offset);

/* Return what a slot holds, borrowed; NULL where it holds nothing. */
static inline PyObject *slot_get(PyObject *record, Py_ssize_t offset)
{
    return *(PyObject **)((char *)record + offset);
}

/* Fill a slot that is empty; takes `value` over. */
static inline void slot_fill(PyObject *record, Py_ssize_t offset, PyObject *value)
{
    *(PyObject **)((char *)record + offset) = value;
}

#endif
