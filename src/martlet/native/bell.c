/* How the two ends of a channel wake each other: see martlet.formats.isolated.channel, which has the pure
   twin.

   Each end writes a notice into memory of its own that the other maps too: how many messages it
   has sent, the last one's two numbers, and whether it sleeps. Who sends counts up, and only then
   looks whether the other sleeps; who is about to sleep says so, and only then looks once more
   whether the count has moved. Both are sequentially consistent, so one of the two sees the other,
   and no message is slept through. A byte over the socket wakes who sleeps; its end tells of death.

   To be put to sleep and woken costs tens of microseconds, so who waits may spin for a moment
   first: where waits were short of late, and the other was awake when it was rung for. One that had
   to be woken may have been given our own core, and would wait there for us; only who answers
   spins all the same now and then, or neither would ever begin. Who spins stops when somebody
   wants a core and has none, and sleeps through the next waits when it was in vain: twice as many
   each time. */

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "objects.h"

#define NOTICE 64          /* bytes at the start of each memory */
#define SLACK_NS 10000     /* more than the usual wait before it is in vain */
#define LOOK_NS 10000      /* how often who spins looks whether others want the core */
#define WITHOUT_NS 100000  /* between two looks at the clock: the core was taken away */
#define MOST_PASSED 256    /* waits that are slept through after spinning was in vain */

typedef struct {
    uint32_t count;
    uint32_t asleep;
    uint64_t number;
    uint64_t length;
} Notice;

typedef struct {
    PyObject_HEAD
    Py_buffer given, taken;
    Notice *ours;
    const Notice *theirs;
    uint32_t sent;    /* messages: our own count, since the other could write in our notice */
    uint32_t seen;    /* the count of the last message that was taken */
    int other;        /* the socket */
    int load;         /* /proc/loadavg, or -1 */
    long cores;       /* of the machine; 0: never spin */
    int64_t most_ns;  /* that a wait spins */
    int begins;       /* whether it is for us to spin where the other was asleep */
    int woke;         /* whether our last message had to wake the other */
    int64_t usual_ns; /* how long waits are, of late */
    uint32_t to_pass; /* waits to sleep through before the next try */
    uint32_t passes;  /* that the next failure costs */
    long long spun, slept;
} Bell;

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void pause_core(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int is_rung(const Bell *bell)
{
    return __atomic_load_n(&bell->theirs->count, __ATOMIC_SEQ_CST) != bell->seen;
}

/* Whether more threads want a core than there are: the machine's fourth figure, "3/106". */
static int is_crowded(const Bell *bell)
{
    char text[128];
    const ssize_t length = pread(bell->load, text, sizeof text - 1, 0);
    if (length <= 0)
        return 0;
    text[length] = 0;
    const char *at = text;
    for (int i = 0; i < 3 && at; i++)
        at = strchr(at + 1, ' ');
    return at && strtol(at, NULL, 10) > bell->cores;
}

enum outcome { RUNG, IN_VAIN, NO_CORE };

static enum outcome spin(const Bell *bell, int64_t begun, int64_t end)
{
    int64_t before = begun, looked = begun - LOOK_NS;
    for (;;) {
        for (int i = 0; i < 16; i++) {
            if (is_rung(bell))
                return RUNG;
            pause_core();
        }
        const int64_t now = now_ns();
        if (now - before > WITHOUT_NS)
            return is_rung(bell) ? RUNG : NO_CORE;
        if (now >= end)
            return IN_VAIN;
        if (now - looked >= LOOK_NS) {
            if (is_crowded(bell))
                return NO_CORE;
            looked = now_ns();
        }
        before = looked > now ? looked : now;
    }
}

/* Spin as long as it may be worth it, and remember how that went. */
static int spin_if_worth(Bell *bell, int64_t begun)
{
    if (!bell->cores || bell->usual_ns > bell->most_ns || (bell->woke && !bell->begins))
        return 0;
    if (bell->to_pass) {
        bell->to_pass--;
        return 0;
    }
    int64_t limit = 2 * bell->usual_ns + SLACK_NS;
    limit = limit < bell->most_ns ? limit : bell->most_ns;
    if (spin(bell, begun, begun + limit) == RUNG) {
        bell->passes = bell->passes > 2 ? bell->passes / 2 : 1;
        bell->spun++;
        return 1;
    }
    bell->to_pass = bell->passes;
    bell->passes = bell->passes < MOST_PASSED ? bell->passes * 2 : MOST_PASSED;
    return 0;
}

/* A long wait says no more than that it was too long, so that one alone is soon forgotten. */
static void remember(Bell *bell, int64_t waited)
{
    const int64_t most = 4 * bell->most_ns;
    bell->usual_ns += ((waited < most ? waited : most) - bell->usual_ns) / 8;
}

enum end { MESSAGE, SILENCE, GONE, FAILED };

/* Sleep until a message has come; *end* is a moment, or below 0 for never. */
static enum end sleep_until(Bell *bell, int64_t end)
{
    enum end found = MESSAGE;
    bell->slept++;
    __atomic_store_n(&bell->ours->asleep, 1, __ATOMIC_SEQ_CST);
    while (!is_rung(bell)) {
        int milliseconds = -1;
        if (end >= 0) {
            const int64_t left = end - now_ns();
            if (left <= 0) {
                found = SILENCE;
                break;
            }
            milliseconds = left > 3600000000000 ? 3600000 : (int)((left + 999999) / 1000000);
        }
        struct pollfd watched = {bell->other, POLLIN, 0};
        const int ready = poll(&watched, 1, milliseconds);
        if (ready < 0) {
            found = FAILED;
            break;
        }
        char bytes[64];
        const ssize_t read = ready ? recv(bell->other, bytes, sizeof bytes, MSG_DONTWAIT) : -1;
        if (read == 0 || (read < 0 && ready && errno != EAGAIN && errno != EINTR)) {
            found = is_rung(bell) ? MESSAGE : read == 0 ? GONE : FAILED;
            break;
        }
    }
    __atomic_store_n(&bell->ours->asleep, 0, __ATOMIC_SEQ_CST);
    return found;
}

static PyObject *wait_for(PyObject *self, PyObject *timeout)
{
    Bell *bell = (Bell *)self;
    int64_t end = -1;
    const int64_t begun = now_ns();
    if (timeout != Py_None) {
        const double seconds = PyFloat_AsDouble(timeout);
        if (seconds == -1.0 && PyErr_Occurred())
            return NULL;
        end = begun + (int64_t)((seconds > 0 ? seconds < 1e9 ? seconds : 1e9 : 0) * 1e9);
    }
    if (!is_rung(bell)) {
        PyThreadState *state = PyEval_SaveThread();
        enum end how = spin_if_worth(bell, begun) ? MESSAGE : sleep_until(bell, end);
        int error = errno;
        PyEval_RestoreThread(state);
        while (how == FAILED && error == EINTR) {
            if (PyErr_CheckSignals() < 0)
                return NULL;
            state = PyEval_SaveThread();
            how = sleep_until(bell, end);
            error = errno;
            PyEval_RestoreThread(state);
        }
        if (how == SILENCE) {
            PyErr_SetString(PyExc_TimeoutError, "no message in time");
            return NULL;
        }
        if (how == GONE) {
            PyErr_SetString(PyExc_EOFError, "the other process closed the channel");
            return NULL;
        }
        if (how == FAILED) {
            errno = error;
            return PyErr_SetFromErrno(PyExc_OSError);
        }
    }
    remember(bell, now_ns() - begun);
    bell->seen = __atomic_load_n(&bell->theirs->count, __ATOMIC_SEQ_CST);
    return Py_BuildValue("KK", (unsigned long long)bell->theirs->number,
                         (unsigned long long)bell->theirs->length);
}

static PyObject *ring(PyObject *self, PyObject *args)
{
    Bell *bell = (Bell *)self;
    unsigned long long number, length;
    if (!PyArg_ParseTuple(args, "KK", &number, &length))
        return NULL;
    bell->ours->number = number;
    bell->ours->length = length;
    __atomic_store_n(&bell->ours->count, ++bell->sent, __ATOMIC_SEQ_CST);
    bell->woke = __atomic_load_n(&bell->theirs->asleep, __ATOMIC_SEQ_CST) != 0;
    if (bell->woke) {
        ssize_t sent;
        do
            sent = send(bell->other, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        while (sent < 0 && errno == EINTR);
        /* Where there is no room, bytes that wake it lie there already. */
        if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK)
            return PyErr_SetFromErrno(PyExc_OSError);
    }
    Py_RETURN_NONE;
}

static PyObject *counts(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    const Bell *bell = (const Bell *)self;
    return Py_BuildValue("LL", bell->spun, bell->slept);
}

static PyObject *bell_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *given, *taken;
    int other, begins;
    double most_s;
    if (!PyArg_ParseTuple(args, "OOidp", &given, &taken, &other, &most_s, &begins))
        return NULL;
    Bell *bell = new_object(type);
    if (bell == NULL)
        return NULL;
    bell->load = -1;
    if (PyObject_GetBuffer(given, &bell->given, PyBUF_WRITABLE) < 0 ||
        PyObject_GetBuffer(taken, &bell->taken, PyBUF_SIMPLE) < 0) {
        Py_DECREF(bell);
        return NULL;
    }
    if (bell->given.len < NOTICE || bell->taken.len < NOTICE ||
        (uintptr_t)bell->given.buf % 8 || (uintptr_t)bell->taken.buf % 8) {
        PyErr_SetString(PyExc_ValueError, "a memory has no room for a notice");
        Py_DECREF(bell);
        return NULL;
    }
    bell->ours = bell->given.buf;
    bell->theirs = bell->taken.buf;
    bell->other = other;
    bell->most_ns = (int64_t)(most_s * 1e9);
    bell->begins = begins;
    bell->passes = 1;
    if (bell->most_ns > 0) {
        bell->cores = sysconf(_SC_NPROCESSORS_ONLN);
        bell->load = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
    }
    return (PyObject *)bell;
}

static void bell_dealloc(PyObject *self)
{
    Bell *bell = (Bell *)self;
    if (bell->load >= 0)
        close(bell->load);
    PyBuffer_Release(&bell->given);
    PyBuffer_Release(&bell->taken);
    free_object(self);
}

static PyMethodDef bell_methods[] = {
    {"ring", ring, METH_VARARGS, "ring(number, length): say that a message lies ready"},
    {"wait", wait_for, METH_O, "wait(seconds or None) -> (number, length) of the next message"},
    {"counts", counts, METH_NOARGS, "counts() -> (waits that spinning ended, waits slept)"},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot bell_slots[] = {{Py_tp_new, bell_new},
                                   {Py_tp_dealloc, bell_dealloc},
                                   {Py_tp_methods, bell_methods},
                                   {0, NULL}};
static PyType_Spec bell_spec = {"martlet.native._bell.Bell", sizeof(Bell), 0, Py_TPFLAGS_DEFAULT,
                                bell_slots};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_bell", "What wakes the other end of a channel.", -1, NULL, NULL, NULL,
    NULL, NULL};

PyMODINIT_FUNC PyInit__bell(void)
{
    return module_with(&module, &bell_spec);
}
