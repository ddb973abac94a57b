/* What the compiled part asks of Python: all that is rare, so that there is one set of rules. */
#ifndef OKSTREAM_RULES_H
#define OKSTREAM_RULES_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

/* Functions of Python; see okstream/levels.py for the first two. */
typedef struct {
    PyObject *read;  /* rows of any form -> list of (price, rest) */
    PyObject *same;  /* (known, price) -> None, or ValueError */
    PyObject *dumps; /* of orjson */
    PyObject *loads; /* of orjson */
} Rules;

extern PyType_Spec levels_spec, cutter_spec, writer_spec;

void writer_prepare(void);

PyObject *token(PyObject *module, PyObject *const *args, Py_ssize_t count);

#endif
