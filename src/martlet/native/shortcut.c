/* The common predict in one call: from the bytes that came to the bytes that go.
 *
 * answer(known, apart, current, prefix, head_limit, body_limit, data) -> None | bytes
 *
 * *known* says by target what is needed to answer there: a martlet.servers.shortcut.Short, which
 * is a tuple in the order of the enum below. None means that the long way must answer: the target
 * is not known, the request is not of the plain form of http.h, a field is among *apart*, another
 * table is in force, the body is not one that the plan reads, or the model raised. Until the model
 * has been called nothing has happened; and a model keeps nothing of a request.
 *
 * The long way is the pure twin: what both answer, they answer the same.
 */
#include "http.h"
#include <math.h>
#include <stdint.h>
#include <time.h>

enum { FORCE, NUMBER, VARIANT, NOTE, SLOW, SLOW_NS, LATE_NS, SIGNATURE, DECODE, ROWS, WRITE_ROWS,
       COLUMNS, WRITE_COLUMNS, FIELDS, PARTS };

#define LONGEST_ID 128
#define LONGEST_PREFIX 32 /* of the ids that are made here */
#define MOST_HEAD 512 /* of a reply, without the fields that the path adds */
#define PLAIN_BELOW 1e6 /* as martlet.wire.tfserving.floats */

static PyObject *word_acquire, *word_release, *word_servable, *word_predict;
static PyObject *dumps, *option_numpy; /* orjson's */

/* What a request says. */
typedef struct {
    Slice target, body, id, trace;
    Framing framing;
} Heard;

/* ---- writing ------------------------------------------------------------------------------- */

static char *put(char *to, const char *text, Py_ssize_t size) {
    memcpy(to, text, (size_t)size);
    return to + size;
}

static char *put_bytes(char *to, PyObject *bytes) {
    return put(to, PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
}

#define PUT(to, literal) put(to, literal, (Py_ssize_t)sizeof(literal) - 1)

static char *put_number(char *to, unsigned long long number, unsigned base) {
    char digits[24], *const end = digits + sizeof digits, *at = end;
    do
        *--at = "0123456789abcdef"[number % base];
    while (number /= base);
    return put(to, at, end - at);
}

/* ---- which request it is; as martlet.servers.identity -------------------------------------- */

static int is_id(Slice s) {
    if (s.length < 1 || s.length > LONGEST_ID)
        return 0;
    for (Py_ssize_t i = 0; i < s.length; i++)
        if ((unsigned char)s.at[i] < 0x21 || (unsigned char)s.at[i] > 0x7e)
            return 0;
    return 1;
}

/* Whether *length* digits are at *at*; *all_zero* where all of them are. */
static int is_hex(const char *at, int length, int *all_zero) {
    *all_zero = 1;
    for (int i = 0; i < length; i++) {
        if (!((at[i] >= '0' && at[i] <= '9') || (at[i] >= 'a' && at[i] <= 'f')))
            return 0;
        *all_zero &= at[i] == '0';
    }
    return 1;
}

/* The trace's id in a traceparent "00-<32 digits>-<16>-<2>"; its length is 0 where there is none. */
static Slice trace_of(Slice s) {
    Slice none = {NULL, 0}, found = {s.at + 3, 32};
    int zero, ignored;
    if (s.length < 55 || (s.length > 55 && s.at[55] != '-') || s.at[2] != '-' || s.at[35] != '-' ||
        s.at[52] != '-' || !is_hex(s.at, 2, &ignored) || !is_hex(s.at + 3, 32, &zero) || zero ||
        !is_hex(s.at + 36, 16, &ignored) || !is_hex(s.at + 53, 2, &ignored) ||
        memcmp(s.at, "ff", 2) == 0)
        return none;
    return found;
}

static PyObject *id_of(const Heard *heard, PyObject *prefix) {
    static unsigned long long made = 0;
    if (is_id(heard->id))
        return PyBytes_FromStringAndSize(heard->id.at, heard->id.length);
    const Slice trace = trace_of(heard->trace);
    if (trace.length)
        return PyBytes_FromStringAndSize(trace.at, trace.length);
    char text[LONGEST_ID], *at = text;
    at = put_bytes(at, prefix);
    at = PUT(at, "-");
    at = put_number(at, ++made, 16);
    return PyBytes_FromStringAndSize(text, at - text);
}

/* ---- reading ------------------------------------------------------------------------------- */

static int is_among(Slice name, PyObject *names) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        PyObject *each = PyTuple_GET_ITEM(names, i);
        if (PyBytes_GET_SIZE(each) == name.length &&
            memcmp(PyBytes_AS_STRING(each), name.at, (size_t)name.length) == 0)
            return 1;
    }
    return 0;
}

/* Reads the fields and the body behind the request line; 0: declined. */
static int hear(const char *start, const char *at, const char *end, PyObject *apart,
                Py_ssize_t head_limit, Py_ssize_t body_limit, Heard *heard) {
    Field field;
    while (end - at >= 2 && !is_head_end(at, end)) {
        at = read_field(at, end, &field);
        const Slice name = name_of(&field);
        if (at == NULL || !note_framing(&heard->framing, &field) || is_among(name, apart))
            return 0;
        if (same(name, "x-request-id"))
            heard->id = field.value;
        else if (same(name, "traceparent"))
            heard->trace = field.value;
    }
    return heard->framing.keep_alive &&
           read_body_slice(start, at, end, &heard->framing, head_limit, body_limit, &heard->body);
}

/* ---- answering ----------------------------------------------------------------------------- */

#define PART(short_, part) PyTuple_GET_ITEM(short_, part)

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Whether the table that *short_* was made for is in force; -1: an error. */
static int is_in_force(PyObject *short_) {
    PyObject *number = PySequence_GetItem(PART(short_, FORCE), 0);
    const int found =
        number == NULL ? -1 : PyObject_RichCompareBool(number, PART(short_, NUMBER), Py_EQ);
    Py_XDECREF(number);
    return found;
}

/* The outputs of the variant, which is leased for the call; None: it is draining. */
static PyObject *predict(PyObject *short_, PyObject *inputs) {
    PyObject *variant = PART(short_, VARIANT);
    PyObject *leased = PyObject_CallMethodNoArgs(variant, word_acquire);
    if (leased == NULL || leased == Py_False) {
        if (leased != NULL)
            Py_SETREF(leased, Py_NewRef(Py_None));
        return leased;
    }
    Py_DECREF(leased);
    PyObject *outputs = NULL, *servable = PyObject_GetAttr(variant, word_servable);
    if (servable != NULL)
        outputs = PyObject_CallMethodObjArgs(servable, word_predict, inputs,
                                             PART(short_, SIGNATURE), NULL);
    Py_XDECREF(servable);
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyObject *released = PyObject_CallMethodNoArgs(variant, word_release);
    if (released == NULL)
        Py_CLEAR(outputs);
    else
        PyErr_Restore(type, value, trace);
    Py_XDECREF(released);
    return outputs;
}

/* How many rows *inputs* are: the first axis of the first. */
static Py_ssize_t rows_of(PyObject *inputs) {
    Py_ssize_t place = 0, rows = 1;
    PyObject *name, *tensor;
    if (PyDict_Next(inputs, &place, &name, &tensor)) {
        rows = PyObject_Length(tensor);
        if (rows < 0) { /* no axis */
            PyErr_Clear();
            rows = 1;
        }
    }
    return rows;
}

/* Tells who counts; 0 where the answer came too late to be given, -1: an error. */
static int tell(PyObject *short_, PyObject *inputs, int64_t took_ns, int64_t model_ns) {
    PyObject *told = NULL;
    const long long slow = PyLong_AsLongLong(PART(short_, SLOW_NS));
    const long long late = PyLong_AsLongLong(PART(short_, LATE_NS));
    if (took_ns > slow) {
        told = PyObject_CallFunction(PART(short_, SLOW), "L", (long long)model_ns);
        if (told == NULL)
            return -1;
        Py_DECREF(told);
        if (took_ns > late)
            return 0;
    }
    told = PyObject_CallFunction(PART(short_, NOTE), "nLL", rows_of(inputs), (long long)took_ns,
                                 (long long)model_ns);
    Py_XDECREF(told);
    return told == NULL ? -1 : 1;
}

/* Whether orjson writes these numbers as upstream does: as martlet.wire.tfserving.floats. */
static int is_plain(const Py_buffer *view) {
    const char *format = view->format ? view->format : "";
    const Py_ssize_t count = view->itemsize ? view->len / view->itemsize : 0;
    if (view->ndim < 1 || count == 0 || strlen(format) != 1)
        return 0;
    int plain = 1; /* a NaN is below nothing */
    const char *at = view->buf; /* maybe not aligned */
    float single;
    double value;
    const int is_single = *format == 'f' && view->itemsize == sizeof single;
    if (!is_single && !(*format == 'd' && view->itemsize == sizeof value))
        return 0;
    for (Py_ssize_t i = 0; i < count; i++, at += view->itemsize) {
        if (is_single) {
            memcpy(&single, at, sizeof single);
            value = single;
        } else {
            memcpy(&value, at, sizeof value);
        }
        plain &= fabs(value) < PLAIN_BELOW;
    }
    return plain;
}

/* The numbers of the only output, as JSON; NULL without an error: write it the long way. */
static PyObject *numbers_of(PyObject *outputs) {
    Py_ssize_t place = 0;
    PyObject *name, *only;
    Py_buffer view;
    if (!PyDict_Check(outputs) || PyDict_GET_SIZE(outputs) != 1 ||
        !PyDict_Next(outputs, &place, &name, &only))
        return NULL;
    if (PyObject_GetBuffer(only, &view, PyBUF_FORMAT | PyBUF_C_CONTIGUOUS) < 0) {
        PyErr_Clear();
        return NULL;
    }
    const int plain = is_plain(&view);
    PyBuffer_Release(&view);
    PyObject *arguments[] = {only, Py_None, option_numpy};
    return plain ? PyObject_Vectorcall(dumps, arguments, 3, NULL) : NULL;
}

/* The whole response around *text*, which is the body, or where *begin* is given all of it but
 * *begin* and a brace. */
static PyObject *reply(PyObject *short_, const Heard *heard, PyObject *id, PyObject *begin,
                       PyObject *text) {
    PyObject *fields = PART(short_, FIELDS);
    if (!PyBytes_Check(text) || !PyBytes_Check(fields) || PyBytes_GET_SIZE(id) > LONGEST_ID ||
        (begin != NULL && !PyBytes_Check(begin))) {
        PyErr_SetString(PyExc_TypeError, "bytes are wanted, and a short id");
        return NULL;
    }
    const Py_ssize_t body_size =
        PyBytes_GET_SIZE(text) + (begin != NULL ? PyBytes_GET_SIZE(begin) + 1 : 0);
    char head[MOST_HEAD], *at = head;
    at = PUT(at, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ");
    at = put_number(at, (unsigned long long)body_size, 10);
    at = PUT(at, "\r\nX-Request-Id: ");
    at = put_bytes(at, id);
    at = PUT(at, "\r\n");
    if (heard->framing.says_keep_alive)
        at = PUT(at, "Connection: keep-alive\r\n");
    PyObject *whole =
        PyBytes_FromStringAndSize(NULL, at - head + PyBytes_GET_SIZE(fields) + 2 + body_size);
    if (whole == NULL)
        return NULL;
    char *to = put(PyBytes_AS_STRING(whole), head, at - head);
    to = put_bytes(to, fields);
    to = PUT(to, "\r\n");
    if (begin != NULL)
        to = put_bytes(to, begin);
    to = put_bytes(to, text);
    if (begin != NULL)
        *to = '}';
    return whole;
}

/* The answer; NULL with an error set, or without one: decline. */
static PyObject *walk(PyObject *short_, const Heard *heard, PyObject *current, PyObject *prefix) {
    const int64_t began_ns = now_ns();
    PyObject *found = NULL, *outputs = NULL, *text = NULL, *whole = NULL, *token = NULL;
    PyObject *id = NULL;
    PyObject *body = PyBytes_FromStringAndSize(heard->body.at, heard->body.length);
    if (body == NULL || (found = PyObject_CallOneArg(PART(short_, DECODE), body)) == NULL ||
        !PyTuple_Check(found) || PyTuple_GET_SIZE(found) != 2 ||
        !PyDict_Check(PyTuple_GET_ITEM(found, 0)))
        goto done;
    PyObject *inputs = PyTuple_GET_ITEM(found, 0);
    const int by_row = PyTuple_GET_ITEM(found, 1) == Py_True;
    /* Who logs names the request. */
    if ((id = id_of(heard, prefix)) == NULL || (token = PyContextVar_Set(current, id)) == NULL)
        goto done;
    const int64_t called_ns = now_ns();
    outputs = predict(short_, inputs);
    const int64_t model_ns = now_ns() - called_ns;
    if (outputs == NULL || outputs == Py_None)
        goto done;
    PyObject *begin = PART(short_, by_row ? ROWS : COLUMNS);
    if ((text = numbers_of(outputs)) == NULL && !PyErr_Occurred()) {
        text = PyObject_CallOneArg(PART(short_, by_row ? WRITE_ROWS : WRITE_COLUMNS), outputs);
        begin = NULL;
    }
    if (text != NULL && tell(short_, inputs, now_ns() - began_ns, model_ns) > 0)
        whole = reply(short_, heard, id, begin, text);
done:
    Py_XDECREF(body);
    Py_XDECREF(found);
    Py_XDECREF(id);
    Py_XDECREF(token);
    Py_XDECREF(outputs);
    Py_XDECREF(text);
    return whole;
}

static PyObject *answer(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *data, *known, *apart, *current, *prefix;
    Py_ssize_t head_limit, body_limit;
    if (!PyArg_ParseTuple(args, "O!O!OSnnS", &PyDict_Type, &known, &PyTuple_Type, &apart, &current,
                          &prefix, &head_limit, &body_limit, &data))
        return NULL;
    if (PyBytes_GET_SIZE(prefix) > LONGEST_PREFIX)
        return PyErr_Format(PyExc_ValueError, "a prefix of ids has %d bytes at most",
                            LONGEST_PREFIX);
    const char *start = PyBytes_AS_STRING(data), *end = start + PyBytes_GET_SIZE(data);
    Slice method;
    Heard heard = {.framing = NOTHING_SAID};
    const char *at = read_request_line(start, end, &method, &heard.target);
    if (at == NULL || !same(method, "POST"))
        Py_RETURN_NONE;
    PyObject *target = PyBytes_FromStringAndSize(heard.target.at, heard.target.length);
    if (target == NULL)
        return NULL;
    PyObject *short_ = PyDict_GetItemWithError(known, target);
    Py_DECREF(target);
    if (short_ == NULL || !PyTuple_Check(short_) || PyTuple_GET_SIZE(short_) != PARTS) {
        if (PyErr_Occurred())
            return NULL;
        Py_RETURN_NONE;
    }
    PyObject *whole = NULL;
    Py_INCREF(short_); /* what is called may forget it */
    if (hear(start, at, end, apart, head_limit, body_limit, &heard) && is_in_force(short_) > 0)
        whole = walk(short_, &heard, current, prefix);
    Py_DECREF(short_);
    if (whole != NULL)
        return whole;
    if (PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_Exception))
            return NULL;
        PyErr_Clear(); /* the long way meets it again, and knows what to say */
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"answer", answer, METH_VARARGS,
     "answer(known, apart, current, prefix, head_limit, body_limit, data) -> None | bytes"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_shortcut", "The common predict in one call.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__shortcut(void) {
    fill_token();
    word_acquire = PyUnicode_InternFromString("acquire");
    word_release = PyUnicode_InternFromString("release");
    word_servable = PyUnicode_InternFromString("servable");
    word_predict = PyUnicode_InternFromString("predict");
    PyObject *orjson = PyImport_ImportModule("orjson");
    if (orjson != NULL) {
        dumps = PyObject_GetAttrString(orjson, "dumps");
        option_numpy = PyObject_GetAttrString(orjson, "OPT_SERIALIZE_NUMPY");
        Py_DECREF(orjson);
    }
    if (!word_acquire || !word_release || !word_servable || !word_predict || !dumps ||
        !option_numpy)
        return NULL;
    return PyModule_Create(&module);
}
