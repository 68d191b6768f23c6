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
#include "reply.h"
#include <stdint.h>
#include <time.h>

enum { FORCE, NUMBER, VARIANT, NOTE, SLOW_NS, FINISH, SIGNATURE, DECODE, APART, LENGTH_FIELD,
       REPLIES, FIELDS, PARTS };

#define LONGEST_PREFIX 32 /* of the ids that are made here */
#define COPIED_BELOW 4096 /* bytes of a body: two views of it cost more than such a copy */

static PyObject *word_acquire, *word_release, *word_servable, *word_predict;

/* What a request says. */
typedef struct {
    Slice target, body, id, trace, length; /* length.at: NULL where no such field came */
    Framing framing;
} Heard;

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

/* ---- the walk ------------------------------------------------------------------------------ */

/* The response to what is not common: *outputs*, or the error that is set where they are NULL. */
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
        Py_CLEAR(whole);
        PyErr_SetString(PyExc_TypeError, "a response is bytes");
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
    return is_reply(*reply);
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
            whole = response_of(PART(short_, FIELDS), heard->framing.says_keep_alive, id,
                                reply, more, &written);
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
    if (!word_acquire || !word_release || !word_servable || !word_predict || prepare_replies() < 0)
        return NULL;
    return PyModule_Create(&module);
}
