/* okstream._compiled.Writer: records of one type as lines of JSON, as okstream.records writes them. */
#include "slots.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>

#define MOST_FIELDS 40
#define DIGITS 20

/* One field of the type: what stands before its value, and where that is; of a book's sides, which of the two. */
typedef struct {
    PyObject *before;
    Py_ssize_t offset;
    int side;
    int optional;
} Field;

#define NO_SIDE (-1)

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *kind;
    PyObject *otherwise;
    Py_ssize_t sides;
    int count;
    Field fields[MOST_FIELDS];
} Writer;

/* The text of one value, which belongs to the record, or is in `digits`. */
typedef struct {
    const char *at;
    size_t length;
    int quoted;
    char digits[DIGITS];
} Piece;

static char escaped[256]; /* whether JSON writes a character of ASCII otherwise */

void writer_prepare(void)
{
    memset(escaped, 1, ' ');
    escaped['"'] = escaped['\\'] = 1;
}

/* -- values. Each returns whether this is one that is written here. */

static int text_piece(PyObject *value, Piece *piece)
{
    if (!PyUnicode_IS_COMPACT_ASCII(value)) {
        return 0;
    }
    const unsigned char *at = PyUnicode_1BYTE_DATA(value);
    size_t length = (size_t)PyUnicode_GET_LENGTH(value);
    unsigned char any = 0;
    for (size_t i = 0; i < length; i++) {
        any |= (unsigned char)escaped[at[i]];
    }
    piece->at = (const char *)at;
    piece->length = length;
    piece->quoted = 1;
    return !any;
}

static int number_piece(PyObject *value, Piece *piece)
{
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    if (overflow) {
        return 0;
    }
    unsigned long long rest = number < 0 ? 0 - (unsigned long long)number : (unsigned long long)number;
    char *end = piece->digits + DIGITS, *at = end;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest > 0);
    if (number < 0) {
        *--at = '-';
    }
    piece->at = at;
    piece->length = (size_t)(end - at);
    piece->quoted = 0;
    return 1;
}

static int word_piece(const char *word, Piece *piece)
{
    piece->at = word;
    piece->length = strlen(word);
    piece->quoted = 0;
    return 1;
}

static int value_piece(PyObject *value, Piece *piece)
{
    if (value == NULL) {
        return 0;
    }
    if (PyUnicode_CheckExact(value)) {
        return text_piece(value, piece);
    }
    if (PyLong_CheckExact(value)) {
        return number_piece(value, piece);
    }
    if (value == Py_None) {
        return word_piece("null", piece);
    }
    if (PyBool_Check(value)) {
        return word_piece(value == Py_True ? "true" : "false", piece);
    }
    return 0;
}

static int side_piece(PyObject *sides, int side, Piece *piece)
{
    if (sides == NULL || !PyTuple_CheckExact(sides) || PyTuple_GET_SIZE(sides) != 2) {
        return 0;
    }
    PyObject *rows = PyTuple_GET_ITEM(sides, side);
    if (!PyBytes_CheckExact(rows)) {
        return 0;
    }
    piece->at = PyBytes_AS_STRING(rows);
    piece->length = (size_t)PyBytes_GET_SIZE(rows);
    piece->quoted = 0;
    return 1;
}

/* -- lines */

/* Find the text of all that is written; return the length of the line, 0 if there is something that is not for here. */
static size_t pieces_of(const Writer *self, PyObject *record, Piece *pieces)
{
    size_t length = 2;
    for (int i = 0; i < self->count; i++) {
        const Field *field = &self->fields[i];
        Piece *piece = &pieces[i];
        if (field->side != NO_SIDE) {
            if (!side_piece(slot_get(record, self->sides), field->side, piece)) {
                return 0;
            }
        } else {
            PyObject *value = slot_get(record, field->offset);
            if (field->optional && value == Py_None) {
                piece->at = NULL;
                continue;
            }
            if (!value_piece(value, piece)) {
                return 0;
            }
        }
        if (piece->length > PY_SSIZE_T_MAX / MOST_FIELDS / 2) {
            return 0;
        }
        length += (size_t)PyBytes_GET_SIZE(field->before) + piece->length + 2 * (size_t)piece->quoted;
    }
    return length;
}

static PyObject *joined(const Writer *self, const Piece *pieces, size_t length)
{
    PyObject *line = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)length);
    if (line == NULL) {
        return NULL;
    }
    char *at = PyBytes_AS_STRING(line);
    for (int i = 0; i < self->count; i++) {
        const Piece *piece = &pieces[i];
        if (piece->at == NULL) {
            continue;
        }
        size_t before = (size_t)PyBytes_GET_SIZE(self->fields[i].before);
        memcpy(at, PyBytes_AS_STRING(self->fields[i].before), before);
        at += before;
        if (piece->quoted) {
            *at++ = '"';
        }
        memcpy(at, piece->at, piece->length);
        at += piece->length;
        if (piece->quoted) {
            *at++ = '"';
        }
    }
    memcpy(at, "}\n", 2);
    return line;
}

static PyObject *writer_call(PyObject *callable, PyObject *const *args, size_t flags, PyObject *names)
{
    const Writer *self = (const Writer *)callable;
    if (PyVectorcall_NARGS(flags) != 1 || names != NULL) {
        PyErr_SetString(PyExc_TypeError, "one record is wanted");
        return NULL;
    }
    Piece pieces[MOST_FIELDS];
    size_t length = Py_IS_TYPE(args[0], (PyTypeObject *)self->kind) ? pieces_of(self, args[0], pieces) : 0;
    return length > 0 ? joined(self, pieces, length) : PyObject_CallOneArg(self->otherwise, args[0]);
}

/* -- the type */

static int add_field(Writer *self, PyObject *name, PyObject *optional, int sided)
{
    const char *text = PyUnicode_AsUTF8(name);
    if (text == NULL) {
        return -1;
    }
    if (self->count == MOST_FIELDS) {
        PyErr_SetString(PyExc_ValueError, "so many fields no record has");
        return -1;
    }
    Field *field = &self->fields[self->count];
    field->side = sided && strcmp(text, "bids") == 0 ? 0 : sided && strcmp(text, "asks") == 0 ? 1 : NO_SIDE;
    field->optional = self->count > 0 ? PySequence_Contains(optional, name) : 0;
    if (field->optional < 0 || (field->side == NO_SIDE && slot_find(self->kind, text, &field->offset) < 0)) {
        return -1;
    }
    if ((field->before = PyBytes_FromFormat("%s\"%s\":", self->count == 0 ? "{" : ",", text)) == NULL) {
        return -1;
    }
    self->count++;
    return 0;
}

static PyObject *writer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *kind, *names, *optional, *otherwise;
    const char *sides = NULL;
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs)) {
        PyErr_SetString(PyExc_TypeError, "arguments are wanted by position");
        return NULL;
    }
    if (!PyArg_ParseTuple(args, "O!O!O!O|z", &PyType_Type, &kind, &PyTuple_Type, &names, &PyTuple_Type, &optional,
                          &otherwise, &sides)) {
        return NULL;
    }
    Writer *self = (Writer *)type->tp_alloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->vectorcall = writer_call;
    self->kind = Py_NewRef(kind);
    self->otherwise = Py_NewRef(otherwise);
    int done = sides == NULL ? 0 : slot_find(kind, sides, &self->sides);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names) && done == 0; i++) {
        done = add_field(self, PyTuple_GET_ITEM(names, i), optional, sides != NULL);
    }
    if (done < 0) {
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

static int writer_traverse(Writer *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(self->kind);
    Py_VISIT(self->otherwise);
    return 0;
}

static void writer_dealloc(Writer *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_DECREF(self->kind);
    Py_DECREF(self->otherwise);
    for (int i = 0; i < self->count; i++) {
        Py_DECREF(self->fields[i].before);
    }
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Writer, vectorcall), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Writes records of one type as okstream.records does, and has what is unusual written by that."},
    {Py_tp_new, writer_new},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_traverse, writer_traverse},
    {Py_tp_dealloc, writer_dealloc},
    {Py_tp_members, members},
    {0, NULL},
};

PyType_Spec writer_spec = {
    .name = "okstream._compiled.Writer",
    .basicsize = sizeof(Writer),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = slots,
};
