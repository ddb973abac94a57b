#include "slots.h"

#include <stddef.h>
#include <structmember.h>

int slot_find(PyObject *kind, const char *name, Py_ssize_t *offset)
{
    PyObject *found = PyObject_GetAttrString(kind, name);
    if (found == NULL) {
        return -1;
    }
    const PyMemberDef *member = Py_IS_TYPE(found, &PyMemberDescr_Type) ? ((PyMemberDescrObject *)found)->d_member : NULL;
    int fits = member != NULL && member->type == T_OBJECT_EX &&
               PyType_IsSubtype((PyTypeObject *)kind, PyDescr_TYPE(found));
    if (fits) {
        *offset = member->offset;
    } else {
        PyErr_Format(PyExc_TypeError, "%s is no slot of %R", name, kind);
    }
    Py_DECREF(found);
    return fits ? 0 : -1;
}
