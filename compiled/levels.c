/* okstream._compiled.Levels: what okstream.levels.Levels is, several times faster. */
#include "crc.h"
#include "side.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>

typedef struct {
    PyObject_HEAD
    long long changes;
    int busy;
    Side bids, asks;
    uint32_t states[CHECKED + 1]; /* of the checksum, before each rank and after the last */
} Levels;

/* A row of no level may make Python run; what that does must not find levels that are half changed. */
static int is_free(const Levels *self)
{
    if (self->busy) {
        PyErr_SetString(PyExc_RuntimeError, "these levels are being changed");
        return 0;
    }
    return 1;
}

static PyObject *levels_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) || (kwargs != NULL && PyDict_GET_SIZE(kwargs))) {
        PyErr_SetString(PyExc_TypeError, "Levels takes no arguments");
        return NULL;
    }
    Levels *self = (Levels *)type->tp_alloc(type, 0);
    if (self != NULL) {
        side_begin(&self->bids, 1.0);
        side_begin(&self->asks, -1.0);
        self->states[0] = CRC_BEGIN;
    }
    return (PyObject *)self;
}

static void levels_dealloc(Levels *self)
{
    PyTypeObject *type = Py_TYPE(self);
    side_clear(&self->bids);
    side_clear(&self->asks);
    type->tp_free(self);
    Py_DECREF(type);
}

/* -- what changes them */

static int take(Side *side, PyObject *given, const Rules *rules)
{
    Rows rows;
    rows_begin(&rows);
    int done = rows_read(&rows, given, rules);
    if (done == 0) {
        done = side_apply(side, &rows, rules);
    }
    rows_end(&rows);
    return done;
}

static PyObject *change(Levels *self, PyTypeObject *type, PyObject *const *sides, Py_ssize_t count, PyObject *names,
                        int anew)
{
    if (count != 2 || (names != NULL && PyTuple_GET_SIZE(names))) {
        PyErr_SetString(PyExc_TypeError, "bids and asks are wanted, by position");
        return NULL;
    }
    if (!is_free(self)) {
        return NULL;
    }
    const Rules *rules = PyType_GetModuleState(type);
    if (rules == NULL) {
        return NULL;
    }
    self->changes++;
    self->busy = 1;
    if (anew) {
        side_clear(&self->bids);
        side_clear(&self->asks);
    }
    int done = take(&self->bids, sides[0], rules) < 0 || take(&self->asks, sides[1], rules) < 0;
    self->busy = 0;
    if (done != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *levels_replace(Levels *self, PyTypeObject *type, PyObject *const *sides, Py_ssize_t count,
                                PyObject *names)
{
    return change(self, type, sides, count, names, 1);
}

static PyObject *levels_apply(Levels *self, PyTypeObject *type, PyObject *const *sides, Py_ssize_t count,
                              PyObject *names)
{
    return change(self, type, sides, count, names, 0);
}

/* -- what reads them */

static uint32_t summed(uint32_t state, const Side *side, uint32_t rank, int *first)
{
    if (rank >= side->count) {
        return state;
    }
    const Cell *cell = side_level(side, rank);
    size_t length = (size_t)cell->price_length + cell->size_length + 2;
    int skipped = *first;
    *first = 0;
    return crc_more(state, cell_text(cell) + skipped, length - (size_t)skipped);
}

static PyObject *levels_checksum(Levels *self, PyObject *Py_UNUSED(none))
{
    if (!is_free(self)) {
        return NULL;
    }
    Side *bids = &self->bids, *asks = &self->asks;
    uint32_t deeper = bids->count > asks->count ? bids->count : asks->count;
    uint32_t ranks = deeper < CHECKED ? deeper : CHECKED;
    for (uint32_t rank = bids->fresh < asks->fresh ? bids->fresh : asks->fresh; rank < ranks; rank++) {
        int first = rank == 0;
        uint32_t state = summed(self->states[rank], bids, rank, &first);
        self->states[rank + 1] = summed(state, asks, rank, &first);
    }
    bids->fresh = asks->fresh = CHECKED;
    return PyLong_FromLong((int32_t)~self->states[ranks]);
}

static size_t json_length(const Side *side, uint32_t count)
{
    size_t length = count == 0 ? 2 : 1; // the last comma makes way for the bracket
    for (uint32_t rank = 0; rank < count; rank++) {
        const Cell *cell = side_level(side, rank);
        length += (size_t)cell->price_length + cell->rest_length + strlen("[\"\",\"],");
    }
    return length;
}

/* Return the best `count` levels as JSON. */
static PyObject *json(const Side *side, uint32_t count)
{
    size_t length = json_length(side, count);
    PyObject *text = length > PY_SSIZE_T_MAX ? PyErr_NoMemory() : PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (text == NULL) {
        return NULL;
    }
    char *at = PyBytes_AS_STRING(text);
    *at++ = '[';
    for (uint32_t rank = 0; rank < count; rank++) {
        const Cell *cell = side_level(side, rank);
        const char *level = cell_text(cell) + 1;
        memcpy(at, "[\"", 2);
        memcpy(at += 2, level, cell->price_length);
        memcpy(at += cell->price_length, "\",\"", 3);
        memcpy(at += 3, level + cell->price_length + 1, cell->rest_length);
        memcpy(at += cell->rest_length, "],", 2);
        at += 2;
    }
    at[count == 0 ? 0 : -1] = ']';
    return text;
}

/* Return how many of `count` a slice up to `depth` has. */
static uint32_t cut(uint32_t count, Py_ssize_t depth)
{
    if (depth < 0) {
        depth += count;
    }
    return depth < 0 ? 0 : depth < (Py_ssize_t)count ? (uint32_t)depth : count;
}

/* Return the best of both sides as JSON, up to the depth in `args`. */
static int both_sides(const Levels *self, PyObject *const *args, Py_ssize_t count, PyObject *names, PyObject *sides[2])
{
    Py_ssize_t depth = PY_SSIZE_T_MAX;
    if (count > 1 || (names != NULL && PyTuple_GET_SIZE(names))) {
        PyErr_SetString(PyExc_TypeError, "a depth is wanted, by position, or nothing");
        return -1;
    }
    if (count == 1 && args[0] != Py_None) {
        depth = PyNumber_AsSsize_t(args[0], NULL);
        if (depth == -1 && PyErr_Occurred()) {
            return -1;
        }
    }
    if (!is_free(self) || (sides[0] = json(&self->bids, cut(self->bids.count, depth))) == NULL) {
        return -1;
    }
    if ((sides[1] = json(&self->asks, cut(self->asks.count, depth))) == NULL) {
        Py_DECREF(sides[0]);
        return -1;
    }
    return 0;
}

static PyObject *levels_sides(Levels *self, PyTypeObject *Py_UNUSED(type), PyObject *const *args, Py_ssize_t count,
                              PyObject *names)
{
    PyObject *sides[2];
    return both_sides(self, args, count, names, sides) < 0 ? NULL : Py_BuildValue("(NN)", sides[0], sides[1]);
}

static PyObject *levels_top(Levels *self, PyTypeObject *type, PyObject *const *args, Py_ssize_t count, PyObject *names)
{
    const Rules *rules = PyType_GetModuleState(type);
    PyObject *sides[2];
    if (rules == NULL || both_sides(self, args, count, names, sides) < 0) {
        return NULL;
    }
    PyObject *bids = PyObject_CallOneArg(rules->loads, sides[0]);
    PyObject *asks = bids == NULL ? NULL : PyObject_CallOneArg(rules->loads, sides[1]);
    Py_DECREF(sides[0]);
    Py_DECREF(sides[1]);
    if (asks == NULL) {
        Py_XDECREF(bids);
        return NULL;
    }
    return Py_BuildValue("(NN)", bids, asks);
}

static PyObject *levels_depth(Levels *self, void *Py_UNUSED(closure))
{
    return is_free(self) ? Py_BuildValue("(II)", self->bids.count, self->asks.count) : NULL;
}

static PyObject *levels_crossed(Levels *self, void *Py_UNUSED(closure))
{
    if (!is_free(self)) {
        return NULL;
    }
    const Side *bids = &self->bids, *asks = &self->asks;
    return PyBool_FromLong(bids->count && asks->count && bids->keys[bids->count - 1] >= -asks->keys[asks->count - 1]);
}

static PyObject *levels_sizeof(Levels *self, PyObject *Py_UNUSED(none))
{
    return PyLong_FromSize_t(sizeof(Levels) + side_size(&self->bids) + side_size(&self->asks));
}

/* -- the type */

#define WITH_TYPE (METH_METHOD | METH_FASTCALL | METH_KEYWORDS)

static PyMethodDef methods[] = {
    {"replace", (PyCFunction)(void (*)(void))levels_replace, WITH_TYPE, "See okstream.levels."},
    {"apply", (PyCFunction)(void (*)(void))levels_apply, WITH_TYPE, "See okstream.levels."},
    {"checksum", (PyCFunction)levels_checksum, METH_NOARGS, "See okstream.levels."},
    {"top", (PyCFunction)(void (*)(void))levels_top, WITH_TYPE, "See okstream.levels."},
    {"sides", (PyCFunction)(void (*)(void))levels_sides, WITH_TYPE, "See okstream.levels."},
    {"__sizeof__", (PyCFunction)levels_sizeof, METH_NOARGS, "Bytes of memory, texts included."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef properties[] = {
    {"depth", (getter)levels_depth, NULL, "How many bids and asks there are.", NULL},
    {"crossed", (getter)levels_crossed, NULL, "Whether the best bid is not below the best ask.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef members[] = {
    {"changes", T_LONGLONG, offsetof(Levels, changes), READONLY, "How often it was replaced or applied to."},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "One instrument's levels of both sides; see okstream.levels.Levels."},
    {Py_tp_new, levels_new},
    {Py_tp_dealloc, levels_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_members, members},
    {Py_tp_getset, properties},
    {0, NULL},
};

PyType_Spec levels_spec = {
    .name = "okstream._compiled.Levels",
    .basicsize = sizeof(Levels),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};
