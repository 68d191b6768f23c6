/* A request that came whole, in the plain form that clients of an API send: its grammar. And the
 * little that writes the head of a reply.
 *
 * One HTTP/1.1 request in one piece, its body by Content-Length. Whatever else comes, valid or not,
 * is declined: the complete parser decides what that is. RFC 9110 (field names and values),
 * RFC 9112 (request line, Content-Length).
 */
#ifndef MARTLET_HTTP_H
#define MARTLET_HTTP_H
#define PY_SSIZE_T_CLEAN
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

/* Bytes of the request. */
typedef struct {
    const char *at;
    Py_ssize_t length;
} Slice;

static inline int same(Slice s, const char *literal) {
    return (Py_ssize_t)strlen(literal) == s.length && memcmp(s.at, literal, (size_t)s.length) == 0;
}

/* As `same`, whatever the case of *s*. */
static inline int same_text(Slice s, const char *literal) {
    if ((Py_ssize_t)strlen(literal) != s.length)
        return 0;
    for (Py_ssize_t i = 0; i < s.length; i++) {
        char c = s.at[i];
        if (c >= 'A' && c <= 'Z')
            c = (char)(c + 32);
        if (c != literal[i])
            return 0;
    }
    return 1;
}

/* Reads "METHOD target HTTP/1.1"; the place behind the line, or NULL. */
static const char *read_request_line(const char *at, const char *end, Slice *method,
                                     Slice *target) {
    static const char version[] = " HTTP/1.1\r\n";
    const Py_ssize_t version_length = (Py_ssize_t)sizeof(version) - 1;
    method->at = at;
    while (at < end && *at >= 'A' && *at <= 'Z')
        at++;
    method->length = at - method->at;
    if (!(same(*method, "POST") || same(*method, "GET")) || at == end || *at++ != ' ')
        return NULL;
    target->at = at;
    if (at == end || *at != '/')
        return NULL;
    while (at < end && (unsigned char)*at > 0x20 && (unsigned char)*at < 0x7f)
        at++;
    target->length = at - target->at;
    if (end - at < version_length || memcmp(at, version, (size_t)version_length) != 0)
        return NULL;
    return at + version_length;
}

typedef struct {
    char name[LONGEST_NAME]; /* in lower case */
    Py_ssize_t name_length;
    Slice value;
} Field;

/* Reads one field line; the place behind it, or NULL. */
static const char *read_field(const char *at, const char *end, Field *field) {
    field->name_length = 0;
    while (at < end && token[(unsigned char)*at]) {
        if (field->name_length == LONGEST_NAME)
            return NULL;
        field->name[field->name_length++] = (char)token[(unsigned char)*at++];
    }
    if (field->name_length == 0 || at == end || *at++ != ':')
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
    field->value.at = value;
    field->value.length = value_end - value;
    return at + 2;
}

static inline Slice name_of(const Field *field) {
    Slice name = {field->name, field->name_length};
    return name;
}

/* What the fields say of the framing. */
typedef struct {
    long long length; /* of the body; -1: not said */
    int keep_alive;
    int says_keep_alive;
} Framing;

#define NOTHING_SAID {-1, 1, 0}

/* Takes in one field; 0: it is one that only the complete parser handles. */
static int note_framing(Framing *framing, const Field *field) {
    const Slice name = name_of(field), value = field->value;
    if (same(name, "content-length")) {
        if (framing->length != -1 || value.length == 0 || value.length > 15)
            return 0;
        long long length = 0;
        for (Py_ssize_t i = 0; i < value.length; i++) {
            if (value.at[i] < '0' || value.at[i] > '9')
                return 0;
            length = length * 10 + (value.at[i] - '0');
        }
        framing->length = length;
        return 1;
    }
    if (same(name, "connection")) {
        if (same_text(value, "close")) {
            framing->keep_alive = 0;
            return 1;
        }
        return framing->says_keep_alive = same_text(value, "keep-alive");
    }
    return !(same(name, "transfer-encoding") || same(name, "expect") || same(name, "upgrade") ||
             same(name, "proxy-connection"));
}

/* Whether the fields have ended at *at*. */
static inline int is_head_end(const char *at, const char *end) {
    return end - at >= 2 && at[0] == '\r' && at[1] == '\n';
}

/* The body, when the head has ended at *at* (NULL: it was declined) and all of it is there. */
static int read_body_slice(const char *start, const char *at, const char *end,
                           const Framing *framing, Py_ssize_t head_limit, Py_ssize_t body_limit,
                           Slice *body) {
    const long long length = framing->length < 0 ? 0 : framing->length;
    if (at == NULL || end - at < 2 || at + 2 - start > head_limit || length > body_limit ||
        end - at - 2 != length)
        return 0;
    body->at = at + 2;
    body->length = (Py_ssize_t)length;
    return 1;
}

/* ---- ids of requests; as martlet.servers.identity ------------------------------------------- */

#define LONGEST_ID 128

static inline int is_id(Slice s) {
    if (s.length < 1 || s.length > LONGEST_ID)
        return 0;
    for (Py_ssize_t i = 0; i < s.length; i++)
        if ((unsigned char)s.at[i] < 0x21 || (unsigned char)s.at[i] > 0x7e)
            return 0;
    return 1;
}

/* Whether *length* digits are at *at*; *all_zero* where all of them are. */
static inline int is_hex(const char *at, int length, int *all_zero) {
    *all_zero = 1;
    for (int i = 0; i < length; i++) {
        if (!((at[i] >= '0' && at[i] <= '9') || (at[i] >= 'a' && at[i] <= 'f')))
            return 0;
        *all_zero &= at[i] == '0';
    }
    return 1;
}

/* The trace's id in a traceparent "00-<32 digits>-<16>-<2>"; its length is 0 where there is none.
   Only later versions than 00 may have more behind a dash; ff is none. */
static inline Slice trace_of(Slice s) {
    const Slice none = {NULL, 0};
    int first, no_trace, no_parent, ignored;
    if (s.length < 55 || s.at[2] != '-' || s.at[35] != '-' || s.at[52] != '-' ||
        !is_hex(s.at, 2, &first) || !is_hex(s.at + 3, 32, &no_trace) || no_trace ||
        !is_hex(s.at + 36, 16, &no_parent) || no_parent || !is_hex(s.at + 53, 2, &ignored) ||
        (s.length > 55 && (first || s.at[55] != '-')) || memcmp(s.at, "ff", 2) == 0)
        return none;
    return (Slice){s.at + 3, 32};
}

/* ---- writing: the place behind what was put at *to* ---------------------------------------- */

static inline char *put(char *to, const char *text, Py_ssize_t size) {
    memcpy(to, text, (size_t)size);
    return to + size;
}

#define PUT(to, literal) put(to, literal, (Py_ssize_t)sizeof(literal) - 1)

static inline char *put_number(char *to, unsigned long long number, unsigned base) {
    char digits[24], *const end = digits + sizeof digits, *at = end;
    do
        *--at = "0123456789abcdef"[number % base];
    while (number /= base);
    return put(to, at, end - at);
}

#endif
