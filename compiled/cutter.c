/* okstream._compiled.Cutter: from the message of a book to its record, as okstream.dialects.hot makes it. */
#include "cut.h"
#include "slots.h"

#include <stddef.h>
#include <string.h>
#include <structmember.h>

#define LONGEST_HEAD 1024 /* as in okstream.dialects.hot, where it is said why */

enum slot { TYPE, VENUE, CHANNEL, INST, TS, RECV, ACTION, SIDES, SEQ, PREV, SUM, ORIGIN, SLOTS };

static const char *const SLOT_NAMES[SLOTS] = {"type",   "venue", "channel", "inst", "ts",       "recv",
                                              "action", "sides", "seq",     "prev", "checksum", "origin"};

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *book, *type_name, *venue, *channel, *inst;
    PyObject *names;  /* whose text `texts` is */
    PyObject *action; /* what stands before the data -> the action, None where that is not for here */
    PyObject *head, *meaning; /* the last that it was asked, and its answer */
    int instants;
    Text texts[FIELDS];
    Py_ssize_t offsets[SLOTS];
} Cutter;

/* Return where the data begins, and the action that what stands before it means. NULL: it is not for here, or an exception
   is set. */
static const char *data_of(Cutter *self, const char *text, const char *end, PyObject **action)
{
    if (self->head != NULL) {
        size_t length = (size_t)PyBytes_GET_SIZE(self->head);
        if ((size_t)(end - text) > length && memcmp(text, PyBytes_AS_STRING(self->head), length) == 0 &&
            cut_data(text + length, end) == text + length) {
            *action = Py_NewRef(self->meaning);
            return text + length;
        }
    }
    const char *data = cut_data(text, end - text < LONGEST_HEAD ? end : text + LONGEST_HEAD);
    PyObject *head = data == NULL ? NULL : PyBytes_FromStringAndSize(text, data - text);
    PyObject *meaning = head == NULL ? NULL : PyObject_CallOneArg(self->action, head);
    if (meaning == NULL || !PyUnicode_CheckExact(meaning)) {
        Py_XDECREF(head);
        Py_XDECREF(meaning);
        return NULL;
    }
    Py_XSETREF(self->head, head);
    Py_XSETREF(self->meaning, meaning);
    *action = Py_NewRef(meaning);
    return data;
}

/* -- values. Each returns a new reference; NULL where it is not for here, or an exception is set. */

static int is_empty(const Value *value)
{
    return value->value.at == NULL || (value->quoted && value->value.length == 0);
}

static PyObject *integer(const Value *value)
{
    long long number;
    if (is_empty(value)) {
        return Py_NewRef(Py_None);
    }
    return cut_integer(value, &number) ? PyLong_FromLongLong(number) : NULL;
}

static PyObject *time_of(const Cutter *self, const Value *value)
{
    long long number;
    if (value->value.at == NULL) {
        return NULL;
    }
    if (!self->instants || is_empty(value)) {
        return integer(value);
    }
    return cut_instant(value, &number) ? PyLong_FromLongLong(number) : NULL;
}

static PyObject *instrument(const Cutter *self, const Value *value)
{
    if (self->texts[INSTRUMENT].length == 0) {
        return Py_NewRef(self->inst);
    }
    if (is_empty(value) || !value->quoted) {
        return NULL;
    }
    return PyUnicode_FromStringAndSize(value->value.at, (Py_ssize_t)value->value.length);
}

static PyObject *bytes(const Text *text)
{
    return PyBytes_FromStringAndSize(text->at, (Py_ssize_t)text->length);
}

static PyObject *sides(const Cut *cut)
{
    PyObject *bids = bytes(&cut->bids), *asks = bytes(&cut->asks);
    PyObject *both = bids == NULL || asks == NULL ? NULL : PyTuple_Pack(2, bids, asks);
    Py_XDECREF(bids);
    Py_XDECREF(asks);
    return both;
}

/* -- the record */

static PyObject *record(const Cutter *self, const Cut *cut, PyObject *action, PyObject *recv)
{
    PyObject *made[SLOTS] = {
        [TYPE] = Py_NewRef(self->type_name),
        [VENUE] = Py_NewRef(self->venue),
        [CHANNEL] = Py_NewRef(self->channel),
        [INST] = instrument(self, &cut->values[INSTRUMENT]),
        [TS] = time_of(self, &cut->values[TIME]),
        [RECV] = Py_NewRef(recv),
        [ACTION] = Py_NewRef(action),
        [SIDES] = sides(cut),
        [SEQ] = integer(&cut->values[SEQUENCE]),
        [PREV] = integer(&cut->values[PREVIOUS]),
        [SUM] = integer(&cut->values[CHECKSUM]),
        [ORIGIN] = Py_NewRef(Py_None),
    };
    int whole = 1;
    for (int slot = 0; slot < SLOTS; slot++) {
        whole = whole && made[slot] != NULL;
    }
    PyTypeObject *type = (PyTypeObject *)self->book;
    PyObject *book = whole ? type->tp_alloc(type, 0) : NULL;
    for (int slot = 0; slot < SLOTS; slot++) {
        if (book != NULL) {
            slot_fill(book, self->offsets[slot], made[slot]);
        } else {
            Py_XDECREF(made[slot]);
        }
    }
    return book;
}

static PyObject *cutter_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *names)
{
    Cutter *self = (Cutter *)callable;
    if (PyVectorcall_NARGS(flags) != 2 || names != NULL || !PyBytes_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "a message, as bytes, and a time are wanted");
        return NULL;
    }
    const char *text = PyBytes_AS_STRING(args[0]), *end = text + PyBytes_GET_SIZE(args[0]);
    PyObject *action, *book = NULL;
    Cut cut;
    const char *data = data_of(self, text, end, &action);
    if (data != NULL) {
        book = cut_read(data, end, self->texts, &cut) ? record(self, &cut, action, args[1]) : NULL;
        Py_DECREF(action);
    }
    if (book == NULL && !PyErr_Occurred()) {
        Py_RETURN_NONE;
    }
    return book;
}

/* -- the type */

static int take_names(Cutter *self)
{
    for (Py_ssize_t i = 0; i < FIELDS; i++) {
        PyObject *name = PyTuple_GET_ITEM(self->names, i);
        Py_ssize_t length = 0;
        if (name != Py_None && (self->texts[i].at = PyUnicode_AsUTF8AndSize(name, &length)) == NULL) {
            return -1;
        }
        self->texts[i].length = (size_t)length;
    }
    return 0;
}

static PyObject *cutter_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *book, *venue, *channel, *inst, *names, *action;
    int instants;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "arguments are wanted by position");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O!OOOO!pO", &PyType_Type, &book, &venue, &channel, &inst, &PyTuple_Type, &names,
                          &instants, &action)) {
        return NULL;
    }
    if (PyTuple_GET_SIZE(names) != FIELDS) {
        PyErr_Format(PyExc_ValueError, "%d names are wanted", FIELDS);
        return NULL;
    }
    Cutter *self = (Cutter *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->vectorcall = cutter_call;
    self->book = Py_NewRef(book);
    self->venue = Py_NewRef(venue);
    self->channel = Py_NewRef(channel);
    self->inst = Py_NewRef(inst);
    self->names = Py_NewRef(names);
    self->action = Py_NewRef(action);
    self->instants = instants;
    self->type_name = PyUnicode_InternFromString("book");
    int done = self->type_name == NULL ? -1 : take_names(self);
    for (int slot = 0; slot < SLOTS && done == 0; slot++) {
        done = slot_find(book, SLOT_NAMES[slot], &self->offsets[slot]);
    }
    if (done < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int cutter_traverse(Cutter *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->book);
    Py_VISIT(self->names);
    Py_VISIT(self->action);
    return 0;
}

static void cutter_dealloc(Cutter *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    PyObject *held[] = {self->book, self->type_name, self->venue,  self->channel, self->inst,
                        self->names, self->action,   self->head, self->meaning};
    for (size_t i = 0; i < sizeof(held) / sizeof(held[0]); i++) {
        Py_XDECREF(held[i]);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Cutter, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Makes records of the messages of one book; None of those that are not as usual."},
    {Py_tp_new, cutter_new},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_traverse, cutter_traverse},
    {Py_tp_dealloc, cutter_dealloc},
    {Py_tp_members, members},
    {0, NULL},
};

PyType_Spec cutter_spec = {
    .name = "okstream._compiled.Cutter",
    .basicsize = sizeof(Cutter),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = slots,
};
