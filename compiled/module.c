/* okstream._compiled: the work of a message that is done most often. Everything in it stands in Python, too. */
#include "crc.h"
#include "rules.h"

static PyObject *attribute(const char *module, const char *name)
{
    PyObject *from = PyImport_ImportModule(module);
    PyObject *found = from == NULL ? NULL : PyObject_GetAttrString(from, name);
    Py_XDECREF(from);
    return found;
}

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
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC PyInit__compiled(void)
{
    return PyModuleDef_Init(&definition);
}
