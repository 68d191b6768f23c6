/* The common reply: one array of floats, as a martlet.servers.shortcut.Reply says, behind its head. */
#ifndef MARTLET_REPLY_H
#define MARTLET_REPLY_H
#include "http.h"
#include <math.h>

/* Of a martlet.servers.shortcut.Reply. */
enum { BEGIN, SHAPE, NUMBERS, END, LAYOUT, KIND, REPLY_PARTS };
enum { NESTED, FLAT, COLUMN, RAW };

#define MOST_HEAD 512 /* of a reply, without the fields that the path adds */
#define MOST_AXES 8
#define MOST_SHAPE (MOST_AXES * 21 + 2) /* bytes of one, written */
#define FEW 16 /* rows of one number that orjson may put into lists itself */
#define PLAIN_BELOW 1e6 /* as martlet.wire.tfserving.floats */

static PyObject *word_reshape, *minus_one;
static PyObject *dumps, *option_numpy; /* orjson's */

/* To be called once, when the module is made; -1 with an error set. */
static int prepare_replies(void) {
    word_reshape = PyUnicode_InternFromString("reshape");
    minus_one = PyLong_FromLong(-1);
    PyObject *orjson = PyImport_ImportModule("orjson");
    if (orjson != NULL) {
        dumps = PyObject_GetAttrString(orjson, "dumps");
        option_numpy = PyObject_GetAttrString(orjson, "OPT_SERIALIZE_NUMPY");
        Py_DECREF(orjson);
    }
    return word_reshape && minus_one && dumps && option_numpy ? 0 : -1;
}

#define PART(short_, part) PyTuple_GET_ITEM(short_, part)

static char *put_bytes(char *to, PyObject *bytes) {
    return put(to, PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
}

static Slice slice_of(PyObject *bytes) {
    Slice found = {PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes)};
    return found;
}

/* Whether *reply* is one: a tuple of what the enum above names. */
static int is_reply(PyObject *reply) {
    return PyTuple_Check(reply) && PyTuple_GET_SIZE(reply) == REPLY_PARTS &&
           PyBytes_Check(PART(reply, BEGIN)) && PyBytes_Check(PART(reply, NUMBERS)) &&
           PyBytes_Check(PART(reply, END)) && PyBytes_Check(PART(reply, KIND)) &&
           (PART(reply, SHAPE) == Py_None || PyBytes_Check(PART(reply, SHAPE)));
}

/* The only output, and what is written of it. */
typedef struct {
    PyObject *text; /* its numbers in JSON; NULL where they go as they lie in memory */
    Py_buffer view;
    int is_held;
    char shape[MOST_SHAPE], *shape_end;
} Written;

static void let_go(Written *written) {
    Py_XDECREF(written->text);
    if (written->is_held)
        PyBuffer_Release(&written->view);
}

/* Whether orjson writes these numbers as every dialect does: as martlet.wire.tfserving.floats. */
static int is_plain(const Py_buffer *view) {
    const Py_ssize_t count = view->len / view->itemsize;
    int plain = count > 0; /* a NaN is below nothing */
    const char *at = view->buf; /* maybe not aligned */
    float single;
    double value;
    for (Py_ssize_t i = 0; i < count; i++, at += view->itemsize) {
        if (view->itemsize == sizeof single) {
            memcpy(&single, at, sizeof single);
            value = single;
        } else {
            memcpy(&value, at, sizeof value);
        }
        plain &= fabs(value) < PLAIN_BELOW;
    }
    return plain;
}

static int is_float(const Py_buffer *view) {
    const char *format = view->format ? view->format : "";
    return (strcmp(format, "f") == 0 && view->itemsize == sizeof(float)) ||
           (strcmp(format, "d") == 0 && view->itemsize == sizeof(double));
}

/* A flat list of *count* numbers as a list of lists of one, which orjson writes at twice the cost. */
static PyObject *each_alone(PyObject *flat, Py_ssize_t count) {
    const char *from = PyBytes_AS_STRING(flat) + 1;
    const char *const end = from + PyBytes_GET_SIZE(flat) - 2;
    PyObject *text = PyBytes_FromStringAndSize(NULL, PyBytes_GET_SIZE(flat) + 2 * count);
    if (text == NULL)
        return NULL;
    char *to = PUT(PyBytes_AS_STRING(text), "[[");
    while (from < end) {
        const char c = *from++;
        to = c == ',' ? PUT(to, "],[") : put(to, &c, 1);
    }
    PUT(to, "]]");
    return text;
}

/* Whether the only output of *outputs* is written as *reply* says; if not, and without an error,
 * another must write it. *rows* are those of the inputs. */
static int write_numbers(PyObject *reply, PyObject *outputs, Py_ssize_t rows, Written *written) {
    Py_ssize_t place = 0;
    PyObject *name, *only;
    Py_buffer *view = &written->view;
    if (!PyDict_Check(outputs) || PyDict_GET_SIZE(outputs) != 1 ||
        !PyDict_Next(outputs, &place, &name, &only))
        return 0;
    if (PyObject_GetBuffer(only, view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) < 0) {
        PyErr_Clear();
        return 0;
    }
    written->is_held = 1;
    const Slice kind = slice_of(PART(reply, KIND));
    const long layout = PyLong_AsLong(PART(reply, LAYOUT));
    const int is_column = view->ndim == 1 || (view->ndim == 2 && view->shape[1] == 1);
    if (view->ndim < 1 || view->ndim > MOST_AXES || !is_float(view) ||
        (kind.length && !same(kind, view->format)) ||
        (layout == COLUMN && !(is_column && view->shape[0] == rows)) ||
        (layout != RAW && !is_plain(view)))
        return 0;
    char *to = PUT(written->shape, "[");
    for (int axis = 0; axis < view->ndim; axis++) {
        to = put(to, ",", axis > 0);
        to = put_number(to, (unsigned long long)view->shape[axis], 10);
    }
    written->shape_end = PUT(to, "]");
    if (layout == RAW)
        return 1;
    const int goes_as_it_is =
        view->ndim == 1 || (layout == NESTED && (!is_column || view->shape[0] <= FEW));
    PyObject *array =
        goes_as_it_is ? Py_NewRef(only) : PyObject_CallMethodOneArg(only, word_reshape, minus_one);
    PyObject *arguments[] = {array, Py_None, option_numpy};
    written->text = array == NULL ? NULL : PyObject_Vectorcall(dumps, arguments, 3, NULL);
    Py_XDECREF(array);
    if (written->text != NULL && !PyBytes_Check(written->text)) {
        Py_CLEAR(written->text);
        PyErr_SetString(PyExc_TypeError, "orjson gives bytes");
    }
    if (written->text != NULL && layout == NESTED && !goes_as_it_is)
        Py_SETREF(written->text, each_alone(written->text, view->shape[0]));
    return written->text != NULL;
}

/* The whole response. *fields*: more lines of its head; *more*: what follows the beginning of the
 * body, or NULL. */
static PyObject *response_of(PyObject *fields, int says_keep_alive, PyObject *id, PyObject *reply,
                             PyObject *more, const Written *written) {
    enum { MOST_PIECES = 8 };
    Slice pieces[MOST_PIECES];
    int count = 0;
    char size[24], head[MOST_HEAD], *at = head;
    pieces[count++] = slice_of(PART(reply, BEGIN));
    if (more != NULL)
        pieces[count++] = slice_of(more);
    if (PART(reply, SHAPE) != Py_None) {
        pieces[count++] = slice_of(PART(reply, SHAPE));
        pieces[count++] = (Slice){written->shape, written->shape_end - written->shape};
    }
    pieces[count++] = slice_of(PART(reply, NUMBERS));
    if (written->text != NULL)
        pieces[count++] = slice_of(written->text);
    else
        pieces[count++] =
            (Slice){size, put_number(size, (unsigned long long)written->view.len, 10) - size};
    pieces[count++] = slice_of(PART(reply, END));
    Py_ssize_t length = 0;
    for (int i = 0; i < count; i++)
        length += pieces[i].length;
    const Py_ssize_t raw = written->text != NULL ? 0 : written->view.len;
    at = PUT(at, "HTTP/1.1 200 OK\r\nContent-Type: ");
    at = written->text != NULL ? PUT(at, "application/json") : PUT(at, "application/octet-stream");
    at = PUT(at, "\r\nContent-Length: ");
    at = put_number(at, (unsigned long long)(length + raw), 10);
    at = PUT(at, "\r\nX-Request-Id: ");
    at = put_bytes(at, id);
    at = PUT(at, "\r\n");
    if (says_keep_alive)
        at = PUT(at, "Connection: keep-alive\r\n");
    if (written->text == NULL) {
        at = PUT(at, "Inference-Header-Content-Length: ");
        at = put_number(at, (unsigned long long)length, 10);
        at = PUT(at, "\r\n");
    }
    PyObject *whole = PyBytes_FromStringAndSize(
        NULL, at - head + PyBytes_GET_SIZE(fields) + 2 + length + raw);
    if (whole == NULL)
        return NULL;
    char *to = put(PyBytes_AS_STRING(whole), head, at - head);
    to = put_bytes(to, fields);
    to = PUT(to, "\r\n");
    for (int i = 0; i < count; i++)
        to = put(to, pieces[i].at, pieces[i].length);
    put(to, written->view.buf, raw);
    return whole;
}

#endif
