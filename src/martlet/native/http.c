/* The head of a request that came whole, read in one pass.
 *
 * parse(data, head_limit, body_limit) -> None | (method, target, headers, body, keep_alive)
 *
 * It reads what clients of an API send: one HTTP/1.1 request in one piece, its body by
 * Content-Length. For everything else, valid or not (chunked bodies, Expect, Upgrade, a second
 * request behind the first, half a request, other line ends), it returns None and touches
 * nothing: the complete parser decides what that is. What both read, they read the same.
 *
 * Grammar: RFC 9110 (field names and values), RFC 9112 (request line, Content-Length).
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <string.h>

#define LONGEST_NAME 64

/* RFC 9110, 5.6.2: tchar, in lower case; 0 where a byte is none. */
static unsigned char token[256];

static void fill_token(void) {
    const char *marks = "!#$%&'*+-.^_`|~";
    for (int c = 0; c < 256; c++) {
        if ((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z'))
            token[c] = (unsigned char)c;
        else if (c >= 'A' && c <= 'Z')
            token[c] = (unsigned char)(c + 32);
        else
            token[c] = (c && c < 128 && strchr(marks, c)) ? (unsigned char)c : 0;
    }
}

static int same(const char *name, Py_ssize_t length, const char *literal) {
    return (Py_ssize_t)strlen(literal) == length && memcmp(name, literal, (size_t)length) == 0;
}

static int same_text(const char *value, Py_ssize_t length, const char *literal) {
    if ((Py_ssize_t)strlen(literal) != length)
        return 0;
    for (Py_ssize_t i = 0; i < length; i++) {
        char c = value[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c + 32);
        if (c != literal[i])
            return 0;
    }
    return 1;
}

/* What the headers say of the framing. */
typedef struct {
    long long length; /* of the body; -1: not said */
    int keep_alive;
} Framing;

/* Take in one field; 0: it is one that only the complete parser handles. */
static int note(Framing *framing, const char *name, Py_ssize_t name_length, const char *value,
                Py_ssize_t value_length) {
    if (same(name, name_length, "content-length")) {
        if (framing->length != -1 || value_length == 0 || value_length > 15)
            return 0;
        long long length = 0;
        for (Py_ssize_t i = 0; i < value_length; i++) {
            if (value[i] < '0' || value[i] > '9')
                return 0;
            length = length * 10 + (value[i] - '0');
        }
        framing->length = length;
        return 1;
    }
    if (same(name, name_length, "connection")) {
        if (same_text(value, value_length, "close")) {
            framing->keep_alive = 0;
            return 1;
        }
        return same_text(value, value_length, "keep-alive");
    }
    return !(same(name, name_length, "transfer-encoding") || same(name, name_length, "expect") ||
             same(name, name_length, "upgrade") || same(name, name_length, "proxy-connection"));
}

/* Read one field line at *at* into *headers*; the place behind it, NULL where that cannot be.
 * Sets *failed on a Python error. */
static const char *field(const char *at, const char *end, PyObject *headers, Framing *framing,
                         int *failed) {
    char name[LONGEST_NAME];
    Py_ssize_t name_length = 0;
    while (at < end && token[(unsigned char)*at]) {
        if (name_length == LONGEST_NAME)
            return NULL;
        name[name_length++] = (char)token[(unsigned char)*at++];
    }
    if (name_length == 0 || at == end || *at++ != ':')
        return NULL;
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    const char *value = at;
    while (at < end && *at != '\r') {
        unsigned char c = (unsigned char)*at;
        if ((c < 0x20 && c != '\t') || c >= 0x7f)
            return NULL;
        at++;
    }
    if (end - at < 2 || at[1] != '\n')
        return NULL;
    const char *value_end = at;
    while (value_end > value && (value_end[-1] == ' ' || value_end[-1] == '\t'))
        value_end--;
    Py_ssize_t value_length = value_end - value;
    if (!note(framing, name, name_length, value, value_length))
        return NULL;
    PyObject *key = PyBytes_FromStringAndSize(name, name_length);
    PyObject *found = PyBytes_FromStringAndSize(value, value_length);
    if (key == NULL || found == NULL || PyDict_SetItem(headers, key, found) < 0)
        *failed = 1;
    Py_XDECREF(key);
    Py_XDECREF(found);
    return *failed ? NULL : at + 2;
}

static PyObject *parse(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *data;
    Py_ssize_t head_limit, body_limit;
    if (!PyArg_ParseTuple(args, "Snn", &data, &head_limit, &body_limit))
        return NULL;
    char *start;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(data, &start, &size) < 0)
        return NULL;
    const char *at = start, *end = start + size;

    const char *method = at;
    while (at < end && *at >= 'A' && *at <= 'Z')
        at++;
    Py_ssize_t method_length = at - method;
    if (!(same(method, method_length, "POST") || same(method, method_length, "GET")) ||
        at == end || *at++ != ' ')
        Py_RETURN_NONE;
    const char *target = at;
    if (at == end || *at != '/')
        Py_RETURN_NONE;
    while (at < end && (unsigned char)*at > 0x20 && (unsigned char)*at < 0x7f)
        at++;
    Py_ssize_t target_length = at - target;
    static const char version[] = " HTTP/1.1\r\n";
    Py_ssize_t version_length = (Py_ssize_t)sizeof(version) - 1;
    if (end - at < version_length || memcmp(at, version, (size_t)version_length) != 0)
        Py_RETURN_NONE;
    at += version_length;

    PyObject *headers = PyDict_New();
    if (headers == NULL)
        return NULL;
    Framing framing = {-1, 1};
    int failed = 0;
    while (at != NULL && end - at >= 2 && !(at[0] == '\r' && at[1] == '\n'))
        at = field(at, end, headers, &framing, &failed);
    if (failed) {
        Py_DECREF(headers);
        return NULL;
    }
    long long length = framing.length < 0 ? 0 : framing.length;
    if (at == NULL || end - at < 2 || at + 2 - start > head_limit || length > body_limit ||
        end - at - 2 != length) {
        Py_DECREF(headers);
        Py_RETURN_NONE;
    }
    PyObject *result = NULL;
    PyObject *verb = PyUnicode_InternFromString(method[0] == 'P' ? "POST" : "GET");
    PyObject *path = PyUnicode_FromStringAndSize(target, target_length);
    PyObject *body = PyBytes_FromStringAndSize(at + 2, (Py_ssize_t)length);
    if (verb != NULL && path != NULL && body != NULL)
        result = PyTuple_Pack(5, verb, path, headers, body,
                              framing.keep_alive ? Py_True : Py_False);
    Py_XDECREF(verb);
    Py_XDECREF(path);
    Py_XDECREF(body);
    Py_DECREF(headers);
    return result;
}

static PyMethodDef methods[] = {
    {"parse", parse, METH_VARARGS,
     "parse(data, head_limit, body_limit) -> None | (method, target, headers, body, keep_alive)"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_http", "One request that came whole.", -1, methods,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__http(void) {
    fill_token();
    return PyModule_Create(&module);
}
