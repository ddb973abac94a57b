/* okstream._compiled: the work of a message that is done most often. Everything in it stands in Python, too. */
#include "crc.h"
#include "inflate.h"
#include "rules.h"

#define LONGEST_TEXT (64 * 1024)

static PyObject *attribute(const char *module, const char *name)
{
    PyObject *from = PyImport_ImportModule(module);
    PyObject *found = from == NULL ? NULL : PyObject_GetAttrString(from, name);
    Py_XDECREF(from);
    return found;
}

/* The text of a frame; None where that is not for here: then zlib inflates it, or says why it cannot. */
static PyObject *inflate(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count)
{
    static unsigned char text[LONGEST_TEXT]; // whoever writes it holds the lock of the interpreter until it is copied
    if (count != 2) {
        PyErr_SetString(PyExc_TypeError, "a frame and a cap are wanted");
        return NULL;
    }
    Py_ssize_t cap = PyNumber_AsSsize_t(args[1], NULL);
    if (cap == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (!PyBytes_CheckExact(args[0]) || cap < 0) {
        Py_RETURN_NONE;
    }
    size_t length = inflate_whole((const unsigned char *)PyBytes_AS_STRING(args[0]), (size_t)PyBytes_GET_SIZE(args[0]),
                                  text, cap < LONGEST_TEXT ? (size_t)cap : LONGEST_TEXT);
    if (length == NOT_INFLATED) {
        Py_RETURN_NONE;
    }
    return PyBytes_FromStringAndSize((const char *)text, (Py_ssize_t)length);
}

static PyMethodDef functions[] = {
    {"inflate", (PyCFunction)(void (*)(void))inflate, METH_FASTCALL, "See okstream.inflate."},
    {"token", (PyCFunction)(void (*)(void))token, METH_FASTCALL, "See okstream.dialects.okex_v3."},
    {NULL, NULL, 0, NULL},
};

static int prepare(PyObject *module)
{
    Rules *rules = PyModule_GetState(module);
    crc_prepare();
    writer_prepare();
    if ((rules->read = attribute("okstream.levels", "read")) == NULL ||
        (rules->same = attribute("okstream.levels", "same")) == NULL ||
        (rules->dumps = attribute("orjson", "dumps")) == NULL ||
        (rules->loads = attribute("orjson", "loads")) == NULL) {
        return -1;
    }
    PyType_Spec *const specs[] = {&levels_spec, &cutter_spec, &writer_spec};
    int added = 0;
    for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]) && added == 0; i++) {
        PyObject *type = PyType_FromModuleAndSpec(module, specs[i], NULL);
        added = type == NULL ? -1 : PyModule_AddType(module, (PyTypeObject *)type);
        Py_XDECREF(type);
    }
    return added;
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    Rules *rules = PyModule_GetState(module);
    Py_VISIT(rules->read);
    Py_VISIT(rules->same);
    Py_VISIT(rules->dumps);
    Py_VISIT(rules->loads);
    return 0;
}

static int clear(PyObject *module)
{
    Rules *rules = PyModule_GetState(module);
    Py_CLEAR(rules->read);
    Py_CLEAR(rules->same);
    Py_CLEAR(rules->dumps);
    Py_CLEAR(rules->loads);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, prepare},
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "okstream._compiled",
    .m_doc = "The work of a message that is done most often.",
    .m_size = sizeof(Rules),
    .m_methods = functions,
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC PyInit__compiled(void)
{
    return PyModuleDef_Init(&definition);
}
