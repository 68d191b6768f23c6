/* The common predict in one call: from the bytes that came to the bytes that go.
 *
 * answer(data, known, apart, current, prefix, head_limit, body_limit) -> None | bytes
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
#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum { FORCE, NUMBER, VARIANT, NOTE, SLOW, SLOW_NS, LATE_NS, SIGNATURE, DECODE, BY_ROW, BY_COLUMN,
       FIELDS, PARTS };

#define LONGEST_ID 128
#define MOST_HEAD 512 /* of a reply, without the fields that the path adds */

static PyObject *word_acquire, *word_release, *word_servable, *word_predict;

/* What a request says. */
typedef struct {
    Slice target, body, id, trace;
    Framing framing;
} Heard;

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
    char text[LONGEST_ID];
    const int size = snprintf(text, sizeof text, "%.32s-%llx", PyBytes_AS_STRING(prefix), ++made);
    return PyBytes_FromStringAndSize(text, size);
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

static PyObject *reply(PyObject *short_, const Heard *heard, PyObject *id, PyObject *body) {
    char head[MOST_HEAD];
    PyObject *fields = PART(short_, FIELDS);
    if (!PyBytes_Check(body) || !PyBytes_Check(fields) || PyBytes_GET_SIZE(id) > LONGEST_ID) {
        PyErr_SetString(PyExc_TypeError, "bytes are wanted, and a short id");
        return NULL;
    }
    const int head_size = snprintf(
        head, sizeof head,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %lld\r\n"
        "X-Request-Id: %s\r\n%s",
        (long long)PyBytes_GET_SIZE(body), PyBytes_AS_STRING(id),
        heard->framing.says_keep_alive ? "Connection: keep-alive\r\n" : "");
    const Py_ssize_t fields_size = PyBytes_GET_SIZE(fields), body_size = PyBytes_GET_SIZE(body);
    PyObject *whole = PyBytes_FromStringAndSize(NULL, head_size + fields_size + 2 + body_size);
    if (whole == NULL)
        return NULL;
    char *to = PyBytes_AS_STRING(whole);
    memcpy(to, head, (size_t)head_size);
    memcpy(to += head_size, PyBytes_AS_STRING(fields), (size_t)fields_size);
    memcpy(to += fields_size, "\r\n", 2);
    memcpy(to + 2, PyBytes_AS_STRING(body), (size_t)body_size);
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
    text = PyObject_CallOneArg(PART(short_, by_row ? BY_ROW : BY_COLUMN), outputs);
    if (text != NULL && tell(short_, inputs, now_ns() - began_ns, model_ns) > 0)
        whole = reply(short_, heard, id, text);
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
    if (!word_acquire || !word_release || !word_servable || !word_predict)
        return NULL;
    return PyModule_Create(&module);
}
