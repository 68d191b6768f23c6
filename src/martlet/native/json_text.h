/* JSON as it lies in memory: where a reader is, words, white space, strings.
 *
 * Whatever is not as expected comes to LEAVE: the complete reader, in Python, decides what it is and
 * what to say of it. */
#ifndef MARTLET_JSON_TEXT_H
#define MARTLET_JSON_TEXT_H
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* How an attempt ended: OK; LEAVE the body to the complete reader; FAILED with a Python error set. */
typedef enum { OK, LEAVE, FAILED } Outcome;

/* What is left to read. */
typedef struct {
    const char *at, *end;
} Text;

/* Most characters are no white space: they cost one comparison. */
static inline int is_space(char c)
{
    return (uint8_t)c <= ' ' && (c == ' ' || c == '\n' || c == '\r' || c == '\t');
}

static inline int is_at(const Text *t, char c) { return t->at < t->end && *t->at == c; }

static inline int read_word(Text *t, const char *word)
{
    const Py_ssize_t size = (Py_ssize_t)strlen(word);
    if (t->end - t->at < size || memcmp(t->at, word, (size_t)size))
        return 0;
    t->at += size;
    return 1;
}

static inline void skip_space(Text *t)
{
    while (t->at < t->end && is_space(*t->at))
        t->at++;
}

/* Whether *c* comes next, after white space; then it is passed. */
static inline int take(Text *t, char c)
{
    skip_space(t);
    if (!is_at(t, c))
        return 0;
    t->at++;
    return 1;
}

/* ---- strings ------------------------------------------------------------------------------ */

static int read_hex(Text *t, uint32_t *code)
{
    *code = 0;
    if (t->end - t->at < 4)
        return 0;
    for (int i = 0; i < 4; i++) {
        const char c = *t->at++;
        const char low = (char)(c | 0x20);
        if ((uint8_t)(c - '0') < 10)
            *code = *code << 4 | (uint32_t)(c - '0');
        else if (low >= 'a' && low <= 'f')
            *code = *code << 4 | (uint32_t)(low - 'a' + 10);
        else
            return 0;
    }
    return 1;
}

/* Writes what the escape after a backslash means, as UTF-8: at most four bytes for six or twelve. */
static int read_escape(Text *t, char **to)
{
    static const char MARKS[] = "\"\\/bfnrt", MEANT[] = "\"\\/\b\f\n\r\t";
    uint32_t code, low;
    if (t->at >= t->end)
        return 0;
    const char mark = *t->at++;
    if (mark != 'u') {
        const char *found = mark ? strchr(MARKS, mark) : NULL;
        if (!found)
            return 0;
        *(*to)++ = MEANT[found - MARKS];
        return 1;
    }
    if (!read_hex(t, &code))
        return 0;
    if (code >= 0xD800 && code < 0xE000) {
        if (code >= 0xDC00 || !read_word(t, "\\u") || !read_hex(t, &low) || low < 0xDC00 ||
            low >= 0xE000)
            return 0;
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    char *p = *to;
    if (code < 0x80) {
        *p++ = (char)code;
    } else if (code < 0x800) {
        *p++ = (char)(0xC0 | code >> 6);
        *p++ = (char)(0x80 | (code & 0x3F));
    } else {
        if (code < 0x10000) {
            *p++ = (char)(0xE0 | code >> 12);
        } else {
            *p++ = (char)(0xF0 | code >> 18);
            *p++ = (char)(0x80 | (code >> 12 & 0x3F));
        }
        *p++ = (char)(0x80 | (code >> 6 & 0x3F));
        *p++ = (char)(0x80 | (code & 0x3F));
    }
    *to = p;
    return 1;
}

/* Reads a string from its opening quote on into a Python str. */
static Outcome read_string(Text *t, PyObject **value)
{
    if (!is_at(t, '"'))
        return LEAVE;
    const char *begun = ++t->at;
    const char *at = begun;
    while (at < t->end && *at != '"' && *at != '\\' && (uint8_t)*at >= 0x20)
        at++;
    if (at >= t->end || (uint8_t)*at < 0x20)
        return LEAVE;
    if (*at == '"') {
        t->at = at + 1;
        *value = PyUnicode_DecodeUTF8(begun, at - begun, NULL);
    } else {
        int escaped = 0;
        for (; at < t->end && (escaped || *at != '"'); at++)
            escaped = !escaped && *at == '\\';
        if (at >= t->end)
            return LEAVE;
        /* An escape is never shorter than what it means. */
        char *space = malloc((size_t)(at - begun) + 1);
        if (!space) {
            PyErr_NoMemory();
            return FAILED;
        }
        char *to = space;
        Text inside = {begun, at};
        int good = 1;
        while (good && inside.at < inside.end) {
            const char c = *inside.at++;
            if (c == '\\')
                good = read_escape(&inside, &to);
            else if ((uint8_t)c < 0x20)
                good = 0;
            else
                *to++ = c;
        }
        t->at = at + 1;
        *value = good ? PyUnicode_DecodeUTF8(space, to - space, NULL) : NULL;
        free(space);
        if (!good)
            return LEAVE;
    }
    if (*value)
        return OK;
    if (PyErr_ExceptionMatches(PyExc_MemoryError))
        return FAILED;
    PyErr_Clear(); /* not UTF-8 */
    return LEAVE;
}

#endif
