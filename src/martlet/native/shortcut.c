/* The common call in one: from the bytes that came to the bytes that go.
 *
 * answer(known, current, prefix, head_limit, body_limit, data) -> None | bytes
 *
 * *known* says by target what is needed to answer there: a martlet.servers.shortcut.Short, which
 * is a tuple in the order of the enum below. None means that the long way must answer: the target
 * is not known, the request is not of the plain form of http.h, a field is among those that are
 * read apart, another table is in force, the version drains, or the body is not one that its
 * reader reads. Then nothing has happened. Once the model has been called nothing is declined:
 * where what came of it is not common (it raised, it was slow, its outputs are not one array of
 * plain numbers), FINISH makes the response of that outcome.
 *
 * The long way is the pure twin: what both answer, they answer the same.
 */
#include "http.h"
#include <math.h>
#include <stdint.h>
#include <time.h>

enum { FORCE, NUMBER, VARIANT, NOTE, SLOW_NS, FINISH, SIGNATURE, DECODE, APART, LENGTH_FIELD,
       REPLIES, FIELDS, PARTS };

/* Of a martlet.servers.shortcut.Reply. */
enum { BEGIN, SHAPE, NUMBERS, END, LAYOUT, KIND, REPLY_PARTS };
enum { NESTED, FLAT, COLUMN, RAW };

#define LONGEST_PREFIX 32 /* of the ids that are made here */
#define MOST_HEAD 512 /* of a reply, without the fields that the path adds */
#define MOST_AXES 8
#define MOST_SHAPE (MOST_AXES * 21 + 2) /* bytes of one, written */
#define COPIED_BELOW 4096 /* bytes of a body: two views of it cost more than such a copy */
#define FEW 16 /* rows of one number that orjson may put into lists itself */
#define PLAIN_BELOW 1e6 /* as martlet.wire.tfserving.floats */

static PyObject *word_acquire, *word_release, *word_servable, *word_predict, *word_reshape;
static PyObject *minus_one;
static PyObject *dumps, *option_numpy; /* orjson's */

/* What a request says. */
typedef struct {
    Slice target, body, id, trace, length; /* length.at: NULL where no such field came */
    Framing framing;
} Heard;

static char *put_bytes(char *to, PyObject *bytes) {
    return put(to, PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes));
}

static Slice slice_of(PyObject *bytes) {
    Slice found = {PyBytes_AS_STRING(bytes), PyBytes_GET_SIZE(bytes)};
    return found;
}

/* Which request it is; as martlet.servers.identity. */
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

#define PART(short_, part) PyTuple_GET_ITEM(short_, part)

/* Reads the fields and the body behind the request line; 0: declined. */
static int hear(PyObject *short_, const char *start, const char *at, const char *end,
                Py_ssize_t head_limit, Py_ssize_t body_limit, Heard *heard) {
    const Slice length_field = slice_of(PART(short_, LENGTH_FIELD));
    Field field;
    while (end - at >= 2 && !is_head_end(at, end)) {
        at = read_field(at, end, &field);
        const Slice name = name_of(&field);
        if (at == NULL || !note_framing(&heard->framing, &field) ||
            is_among(name, PART(short_, APART)))
            return 0;
        if (same(name, "x-request-id"))
            heard->id = field.value;
        else if (same(name, "traceparent"))
            heard->trace = field.value;
        else if (name.length == length_field.length &&
                 memcmp(name.at, length_field.at, (size_t)name.length) == 0)
            heard->length = field.value;
    }
    return heard->framing.keep_alive &&
           read_body_slice(start, at, end, &heard->framing, head_limit, body_limit, &heard->body);
}

/* The body; a long one is not copied. */
static PyObject *body_of(const Heard *heard, PyObject *data) {
    const Py_ssize_t length = heard->body.length;
    if (length < COPIED_BELOW)
        return PyBytes_FromStringAndSize(heard->body.at, length);
    const Py_ssize_t at = heard->body.at - PyBytes_AS_STRING(data);
    PyObject *whole = PyMemoryView_FromObject(data), *body = NULL;
    if (whole != NULL)
        body = PySequence_GetSlice(whole, at, at + length);
    Py_XDECREF(whole);
    return body;
}

/* What the body holds: (inputs, which reply, more of it); None: it is not a common one. */
static PyObject *decoded(PyObject *short_, const Heard *heard, PyObject *data) {
    PyObject *body = body_of(heard, data), *found = NULL;
    PyObject *length = NULL;
    size_t count = 1;
    if (heard->length.at != NULL) {
        length = PyBytes_FromStringAndSize(heard->length.at, heard->length.length);
        count = 2;
    }
    if (body != NULL && (count == 1 || length != NULL)) {
        PyObject *arguments[] = {body, length};
        found = PyObject_Vectorcall(PART(short_, DECODE), arguments, count, NULL);
    }
    Py_XDECREF(body);
    Py_XDECREF(length);
    return found;
}

/* ---- answering ----------------------------------------------------------------------------- */

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

/* ---- the reply ----------------------------------------------------------------------------- */

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

/* The whole response. *more*: what follows the beginning of the body, or NULL. */
static PyObject *response_of(PyObject *short_, const Heard *heard, PyObject *id, PyObject *reply,
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
        pieces[count++] = (Slice){size, put_number(size, (unsigned long long)written->view.len, 10) - size};
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
    if (heard->framing.says_keep_alive)
        at = PUT(at, "Connection: keep-alive\r\n");
    if (written->text == NULL) {
        at = PUT(at, "Inference-Header-Content-Length: ");
        at = put_number(at, (unsigned long long)length, 10);
        at = PUT(at, "\r\n");
    }
    PyObject *fields = PART(short_, FIELDS);
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

/* ---- the walk ------------------------------------------------------------------------------ */

/* The response to what is not common: *outputs*, or the error that is set where they are NULL.
 * NULL with an error set, or without one: decline. */
static PyObject *finish(PyObject *short_, const Heard *heard, PyObject *id, PyObject *found,
                        PyObject *outputs, Py_ssize_t rows, int64_t took_ns, int64_t model_ns) {
    PyObject *type = NULL, *error = NULL, *trace = NULL;
    if (PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_Exception))
            return NULL;
        PyErr_Fetch(&type, &error, &trace);
        PyErr_NormalizeException(&type, &error, &trace);
        if (trace != NULL)
            PyException_SetTraceback(error, trace);
        outputs = error;
    }
    PyObject *whole = PyObject_CallFunction(
        PART(short_, FINISH), "OOnLLOi", outputs, found, rows, (long long)took_ns,
        (long long)model_ns, id, heard->framing.says_keep_alive);
    Py_XDECREF(type);
    Py_XDECREF(error);
    Py_XDECREF(trace);
    if (whole != NULL && !PyBytes_Check(whole)) {
        if (whole != Py_None) /* which declines */
            PyErr_SetString(PyExc_TypeError, "a response is bytes");
        Py_CLEAR(whole);
    }
    return whole;
}

/* Whether *short_* is one, of parts that nobody looks at again. */
static int is_short(PyObject *short_) {
    return PyTuple_Check(short_) && PyTuple_GET_SIZE(short_) == PARTS &&
           PyTuple_Check(PART(short_, APART)) && PyBytes_Check(PART(short_, LENGTH_FIELD)) &&
           PyTuple_Check(PART(short_, REPLIES)) && PyBytes_Check(PART(short_, FIELDS));
}

/* Takes a reader's answer apart; 0: it is none. *more* becomes NULL where there is none. */
static int is_found(PyObject *short_, PyObject *found, PyObject **inputs, PyObject **reply,
                    PyObject **more) {
    if (!PyTuple_Check(found) || PyTuple_GET_SIZE(found) < 2 ||
        !PyDict_Check(*inputs = PyTuple_GET_ITEM(found, 0)))
        return 0;
    *more = PyTuple_GET_SIZE(found) > 2 ? PyTuple_GET_ITEM(found, 2) : NULL;
    const int which = PyObject_IsTrue(PyTuple_GET_ITEM(found, 1));
    if (which < 0 || which >= PyTuple_GET_SIZE(PART(short_, REPLIES)) ||
        (*more != NULL && !PyBytes_Check(*more)))
        return 0;
    *reply = PyTuple_GET_ITEM(PART(short_, REPLIES), which);
    return PyTuple_Check(*reply) && PyTuple_GET_SIZE(*reply) == REPLY_PARTS &&
           PyBytes_Check(PART(*reply, BEGIN)) && PyBytes_Check(PART(*reply, NUMBERS)) &&
           PyBytes_Check(PART(*reply, END)) && PyBytes_Check(PART(*reply, KIND)) &&
           (PART(*reply, SHAPE) == Py_None || PyBytes_Check(PART(*reply, SHAPE)));
}

/* The answer; NULL with an error set, or without one: decline. */
static PyObject *walk(PyObject *short_, const Heard *heard, PyObject *data, PyObject *current,
                      PyObject *prefix) {
    const int64_t began_ns = now_ns();
    PyObject *inputs, *reply, *more, *told, *whole = NULL, *outputs = NULL, *token = NULL;
    PyObject *found = decoded(short_, heard, data), *id = NULL;
    if (found == NULL || !is_found(short_, found, &inputs, &reply, &more)) {
        if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_Exception))
            PyErr_Clear(); /* the long way meets it again, and knows what to say */
        goto done;
    }
    /* Who logs names the request. */
    if ((id = id_of(heard, prefix)) == NULL || (token = PyContextVar_Set(current, id)) == NULL)
        goto done;
    const int64_t called_ns = now_ns();
    outputs = predict(short_, inputs);
    const int64_t model_ns = now_ns() - called_ns;
    if (outputs == Py_None)
        goto done;
    Written written = {0};
    const Py_ssize_t rows = rows_of(inputs);
    const int is_common = outputs != NULL && write_numbers(reply, outputs, rows, &written);
    const int64_t took_ns = now_ns() - began_ns;
    if (is_common && took_ns <= PyLong_AsLongLong(PART(short_, SLOW_NS))) {
        told = PyObject_CallFunction(PART(short_, NOTE), "nLL", rows, (long long)took_ns,
                                     (long long)model_ns);
        if (told != NULL)
            whole = response_of(short_, heard, id, reply, more, &written);
        Py_XDECREF(told);
    }
    if (whole == NULL)
        whole = finish(short_, heard, id, found, outputs, rows, took_ns, model_ns);
    let_go(&written);
done:
    Py_XDECREF(found);
    Py_XDECREF(id);
    Py_XDECREF(token);
    Py_XDECREF(outputs);
    return whole;
}

static PyObject *answer(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *data, *known, *current, *prefix;
    Py_ssize_t head_limit, body_limit;
    if (!PyArg_ParseTuple(args, "O!OSnnS", &PyDict_Type, &known, &current, &prefix, &head_limit,
                          &body_limit, &data))
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
    if (short_ == NULL && PyErr_Occurred())
        return NULL;
    if (short_ == NULL || !is_short(short_))
        Py_RETURN_NONE;
    PyObject *whole = NULL;
    Py_INCREF(short_); /* what is called may forget it */
    if (hear(short_, start, at, end, head_limit, body_limit, &heard) && is_in_force(short_) > 0)
        whole = walk(short_, &heard, data, current, prefix);
    Py_DECREF(short_);
    if (whole == NULL && !PyErr_Occurred())
        Py_RETURN_NONE;
    return whole;
}

static PyMethodDef methods[] = {
    {"answer", answer, METH_VARARGS,
     "answer(known, current, prefix, head_limit, body_limit, data) -> None | bytes"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_shortcut", "The common call in one.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__shortcut(void) {
    fill_token();
    word_acquire = PyUnicode_InternFromString("acquire");
    word_release = PyUnicode_InternFromString("release");
    word_servable = PyUnicode_InternFromString("servable");
    word_predict = PyUnicode_InternFromString("predict");
    word_reshape = PyUnicode_InternFromString("reshape");
    minus_one = PyLong_FromLong(-1);
    PyObject *orjson = PyImport_ImportModule("orjson");
    if (orjson != NULL) {
        dumps = PyObject_GetAttrString(orjson, "dumps");
        option_numpy = PyObject_GetAttrString(orjson, "OPT_SERIALIZE_NUMPY");
        Py_DECREF(orjson);
    }
    if (!word_acquire || !word_release || !word_servable || !word_predict || !word_reshape ||
        !minus_one || !dumps || !option_numpy)
        return NULL;
    return PyModule_Create(&module);
}
