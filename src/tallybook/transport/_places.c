/* What Python sees of `_scan.c`: a Finder of paths, and where it finds the values of a body. */

#define Py_LIMITED_API 0x030B0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdlib.h>

#include "_scan.h"

typedef struct {
    PyObject_HEAD
    Node *paths;
    Py_ssize_t rows;
} Finder;

/* Return (count, starts, ends, declared): rows behind each other, 32-bit and 8-bit integers. */
static PyObject *
told(const Found *found, Py_ssize_t rows)
{
    Py_ssize_t count = found->count, size = count * rows * (Py_ssize_t)sizeof(int32_t);
    PyObject *starts = PyBytes_FromStringAndSize(NULL, size);
    PyObject *ends = PyBytes_FromStringAndSize(NULL, size);
    if (starts != NULL && ends != NULL) {
        int32_t *start = (int32_t *)PyBytes_AsString(starts), *end = (int32_t *)PyBytes_AsString(ends);
        for (Py_ssize_t row = 0; row < rows; row++) {
            const int32_t *cell = found->cells + 2 * row;
            for (Py_ssize_t i = 0; i < count; i++, cell += 2 * rows) {
                *start++ = cell[0];
                *end++ = cell[1];
            }
        }
    }
    PyObject *declared = PyBytes_FromStringAndSize((const char *)found->declared, count);
    PyObject *answer = NULL;
    if (starts != NULL && ends != NULL && declared != NULL)
        answer = Py_BuildValue("nOOO", count, starts, ends, declared);
    Py_XDECREF(starts);
    Py_XDECREF(ends);
    Py_XDECREF(declared);
    return answer;
}

static PyObject *
finder_find(PyObject *self, PyObject *args)
{
    PyObject *body;
    Py_ssize_t size;
    Limits limits;
    char *text;
    if (!PyArg_ParseTuple(args, "O!nnn", &PyBytes_Type, &body, &limits.events, &limits.event_bytes,
                          &limits.attribute_bytes)
        || PyBytes_AsStringAndSize(body, &text, &size) < 0)
        return NULL;
    if (size >= INT32_MAX)
        Py_RETURN_NONE;
    const Finder *finder = (const Finder *)self;
    Found found = {NULL, NULL, 0, 0};
    int taken = scan(text, size, finder->paths, finder->rows, limits, &found);
    PyObject *answer = NULL;
    if (taken < 0)
        PyErr_NoMemory();
    else
        answer = taken ? told(&found, finder->rows) : Py_NewRef(Py_None);
    free(found.cells);
    free(found.declared);
    return answer;
}

/* Return 0 where a step was refused that no value can stand at, an index beyond all memory or a name
 * that is no UTF-8: such a path has no row. -1 with an exception otherwise. */
static int
leads_nowhere(void)
{
    if (!PyErr_ExceptionMatches(PyExc_OverflowError) && !PyErr_ExceptionMatches(PyExc_UnicodeError))
        return -1;
    PyErr_Clear();
    return 0;
}

/* Put a path into the tree; -1 with an exception. */
static int
plant(Node *root, PyObject *path, int32_t row)
{
    Node *node = root;
    Py_ssize_t count = PyTuple_Size(path);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *step = PyTuple_GetItem(path, i);
        const char *key = NULL;
        Py_ssize_t size;
        if (PyUnicode_Check(step))
            key = PyUnicode_AsUTF8AndSize(step, &size);
        else
            size = PyLong_AsSsize_t(step);
        if (PyErr_Occurred())
            return leads_nowhere();
        if ((node = grown(node, key, size)) == NULL)
            break;
    }
    if (count == 0)
        return 0;                                         /* `$` is an object, and has no text */
    if (node != NULL && ends_here(node, row))
        return 0;
    PyErr_NoMemory();
    return -1;
}

static PyObject *
finder_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *paths;
    if (!PyArg_ParseTuple(args, "O!", &PyTuple_Type, &paths))
        return NULL;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Finder *self = (Finder *)alloc(type, 0);
    if (self == NULL)
        return NULL;
    Py_ssize_t count = PyTuple_Size(paths);
    self->rows = NAMED + count + 1;
    self->paths = new_tree();
    if (self->paths == NULL)
        PyErr_NoMemory();
    for (Py_ssize_t i = 0; i < count && !PyErr_Occurred(); i++) {
        PyObject *path = PyTuple_GetItem(paths, i);
        if (!PyTuple_Check(path))
            PyErr_SetString(PyExc_TypeError, "a path is a tuple of names and indexes");
        else
            plant(self->paths, path, (int32_t)(NAMED + i));
    }
    if (PyErr_Occurred()) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void
finder_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    free_tree(((Finder *)self)->paths);
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_object(self);
    Py_DECREF(type);
}

static PyMethodDef finder_methods[] = {
    {"find", finder_find, METH_VARARGS,
     "find(body, events_max, event_bytes_max, attribute_bytes_max)\n\n"
     "Return (count, starts, ends, declared) of a body's events, or None for another road."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot finder_slots[] = {
    {Py_tp_doc, "Finds where the values of events stand.\n\nArgs: paths, tuples of names and indexes."},
    {Py_tp_new, finder_new},
    {Py_tp_dealloc, finder_dealloc},
    {Py_tp_methods, finder_methods},
    {0, NULL},
};

static PyType_Spec finder_spec = {
    .name = "tallybook.transport._places.Finder",
    .basicsize = sizeof(Finder),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = finder_slots,
};

static int
ready(PyObject *module)
{
    PyObject *type = PyType_FromSpec(&finder_spec);
    if (type == NULL)
        return -1;
    int done = PyModule_AddObjectRef(module, "Finder", type);
    Py_DECREF(type);
    return done;
}

static PyModuleDef_Slot module_slots[] = {{Py_mod_exec, ready}, {0, NULL}};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "tallybook.transport._places",
    .m_doc = "Where the values of events stand in the body of a request.",
    .m_slots = module_slots,
};

PyMODINIT_FUNC
PyInit__places(void)
{
    return PyModuleDef_Init(&module);
}
