/*
 * Stands between a program and the C library's calls that change a folder: counts them over all threads, writes each one
 * down, and does harm at one of them.
 *
 * Loaded with LD_PRELOAD. The environment says what to do:
 *   INJECT_FOLDER  the folder whose changes are points; nothing else is touched
 *   INJECT_LOG     where each point is written down: "CALL BYTES PATH", and for the one that is hit, before that,
 *                  "HIT KIND NANOSECONDS CALL BYTES PATH"
 *   INJECT_KIND    kill       the process is killed before a call
 *                  kill-half  the process is killed after half of a write
 *                  eio        a call fails with EIO, once
 *                  enospc     a call that needs space fails with ENOSPC, and every such call after it
 *                  short      half of a write is written, and that is what the call answers
 *                  half-full  the same, and every call after it that needs space fails with ENOSPC
 *   INJECT_AT      the call to hit, from 1, counting those that can come to this harm; 0 or absent: none
 *
 * The kernel is entered by syscall(2), so that nothing here depends on the functions that it replaces. What a program
 * does past the C library is not seen; the proof compares with what strace sees.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef O_TMPFILE
#define O_TMPFILE 0
#endif

enum kind { NONE, KILL, KILL_HALF, EIO_ONCE, ENOSPC_ON, SHORT, HALF_FULL };

/* What a call is, as far as it decides which harm it can come to. */
enum nature { WRITES, NEEDS_SPACE, OTHER };

enum verdict { PROCEED, HALVE, FAIL };

static char folder[PATH_MAX];
static size_t folder_length;
static int log_file = -1;
static unsigned long target;
static enum kind kind = NONE;
static atomic_ulong counter;
static atomic_bool full;

static const struct {
    const char *name;
    enum kind kind;
} kinds[] = {
    {"kill", KILL},        {"kill-half", KILL_HALF}, {"eio", EIO_ONCE},
    {"enospc", ENOSPC_ON}, {"short", SHORT},         {"half-full", HALF_FULL},
};

static void give_up(const char *why) {
    dprintf(STDERR_FILENO, "interposer: %s\n", why);
    _exit(97);
}

__attribute__((constructor)) static void begin(void) {
    const char *wanted = getenv("INJECT_FOLDER");
    const char *log = getenv("INJECT_LOG");
    if (wanted == NULL || log == NULL) {
        return;
    }
    folder_length = strlen(wanted);
    if (folder_length == 0 || folder_length >= sizeof folder) {
        give_up("INJECT_FOLDER is empty or too long");
    }
    memcpy(folder, wanted, folder_length + 1);
    log_file = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (log_file < 0) {
        give_up("INJECT_LOG cannot be opened");
    }
    const char *at = getenv("INJECT_AT");
    target = at == NULL ? 0 : strtoul(at, NULL, 10);
    const char *name = getenv("INJECT_KIND");
    for (size_t i = 0; name != NULL && i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strcmp(name, kinds[i].name) == 0) {
            kind = kinds[i].kind;
        }
    }
    if (target != 0 && kind == NONE) {
        give_up("INJECT_KIND is none of those known");
    }
}

static bool within(const char *path) {
    return log_file >= 0 && strncmp(path, folder, folder_length) == 0 &&
           (path[folder_length] == '\0' || path[folder_length] == '/');
}

/* The path behind a descriptor; false when it has none in the folder. */
static bool path_of(int fd, char path[PATH_MAX]) {
    if (log_file < 0) {
        return false;
    }
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length < 0) {
        return false;
    }
    path[length] = '\0';
    return within(path);
}

/* The path that a call names; false when it is not in the folder. */
static bool resolve(int directory, const char *name, char path[PATH_MAX]) {
    if (log_file < 0 || name == NULL) {
        return false;
    }
    if (name[0] == '/') {
        snprintf(path, PATH_MAX, "%s", name);
        return within(path);
    }
    char base[PATH_MAX];
    if (directory == AT_FDCWD) {
        if (syscall(SYS_getcwd, base, sizeof base) < 0) {
            return false;
        }
    } else {
        char link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
        long length = syscall(SYS_readlinkat, AT_FDCWD, link, base, sizeof base - 1);
        if (length < 0) {
            return false;
        }
        base[length] = '\0';
    }
    if ((size_t)snprintf(path, PATH_MAX, "%s/%s", base, name) >= PATH_MAX) {
        return false;
    }
    return within(path);
}

static void note(const char *line, int length) {
    /* One write to a file opened for appending: lines of several threads do not mix. */
    if (length <= 0 || syscall(SYS_write, log_file, line, (size_t)length) != length) {
        give_up("INJECT_LOG cannot be written");
    }
}

static void note_hit(const char *point) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    const char *name = "none";
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (kinds[i].kind == kind) {
            name = kinds[i].name;
        }
    }
    char line[PATH_MAX + 256];
    note(line, snprintf(line, sizeof line, "HIT %s %lld%09ld %s", name, (long long)now.tv_sec, now.tv_nsec, point));
}

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) {
        pause();
    }
}

/* Whether a call can come to the harm that is to be done. */
static bool applies(enum nature nature, size_t bytes) {
    switch (kind) {
    case KILL:
    case EIO_ONCE:
        return true;
    case ENOSPC_ON:
        return nature != OTHER;
    case KILL_HALF:
    case SHORT:
    case HALF_FULL:
        return nature == WRITES && bytes >= 2;
    case NONE:
        break;
    }
    return false;
}

/* Does the harm; sets errno when the call is to fail. */
static enum verdict harm(void) {
    switch (kind) {
    case KILL:
        die();
        break;
    case EIO_ONCE:
        errno = EIO;
        return FAIL;
    case ENOSPC_ON:
        atomic_store(&full, true);
        errno = ENOSPC;
        return FAIL;
    case HALF_FULL:
        atomic_store(&full, true);
        return HALVE;
    case KILL_HALF:
    case SHORT:
        return HALVE;
    case NONE:
        break;
    }
    return PROCEED;
}

/* Writes a point down and says what becomes of it. */
static enum verdict judge(const char *call, enum nature nature, size_t bytes, const char *path) {
    int before = errno;
    const char *shown = path + folder_length;
    char line[PATH_MAX + 128];
    int length = snprintf(line, sizeof line, "%s %zu %s\n", call, bytes, *shown == '/' ? shown + 1 : ".");
    bool was_full = atomic_load(&full);
    if (applies(nature, bytes) && atomic_fetch_add(&counter, 1) + 1 == target) {
        note_hit(line);
        note(line, length);
        errno = before;
        return harm();
    }
    note(line, length);
    if (nature != OTHER && was_full) {
        errno = ENOSPC;
        return FAIL;
    }
    errno = before;
    return PROCEED;
}

/* After half of a write: the end of the process, or the short answer. */
static ssize_t halved(ssize_t written) {
    if (kind == KILL_HALF) {
        die();
    }
    return written;
}

/* -- opening ---------------------------------------------------------------------------------------------------- */

static int opened(int directory, const char *name, int flags, mode_t mode) {
    char path[PATH_MAX];
    bool changes = (flags & (O_CREAT | O_TRUNC)) != 0;
    if (changes && resolve(directory, name, path) && judge("open", NEEDS_SPACE, 0, path) == FAIL) {
        return -1;
    }
    return (int)syscall(SYS_openat, directory, name, flags, mode);
}

#define MODE_OF(flags)                                                                                                 \
    mode_t mode = 0;                                                                                                   \
    if (((flags) & O_CREAT) != 0 || ((flags) & O_TMPFILE) == O_TMPFILE) {                                              \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        mode = (mode_t)va_arg(arguments, int);                                                                         \
        va_end(arguments);                                                                                             \
    }

int open(const char *name, int flags, ...) {
    MODE_OF(flags)
    return opened(AT_FDCWD, name, flags, mode);
}

int open64(const char *name, int flags, ...) {
    MODE_OF(flags)
    return opened(AT_FDCWD, name, flags | O_LARGEFILE, mode);
}

int openat(int directory, const char *name, int flags, ...) {
    MODE_OF(flags)
    return opened(directory, name, flags, mode);
}

int openat64(int directory, const char *name, int flags, ...) {
    MODE_OF(flags)
    return opened(directory, name, flags | O_LARGEFILE, mode);
}

int creat(const char *name, mode_t mode) { return opened(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }

int creat64(const char *name, mode_t mode) { return creat(name, mode); }

/* -- writing ---------------------------------------------------------------------------------------------------- */

ssize_t write(int fd, const void *bytes, size_t count) {
    char path[PATH_MAX];
    if (path_of(fd, path)) {
        switch (judge("write", WRITES, count, path)) {
        case FAIL:
            return -1;
        case HALVE:
            return halved(syscall(SYS_write, fd, bytes, count / 2));
        case PROCEED:
            break;
        }
    }
    return syscall(SYS_write, fd, bytes, count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t offset) {
    char path[PATH_MAX];
    if (path_of(fd, path)) {
        switch (judge("pwrite64", WRITES, count, path)) {
        case FAIL:
            return -1;
        case HALVE:
            return halved(syscall(SYS_pwrite64, fd, bytes, count / 2, offset));
        case PROCEED:
            break;
        }
    }
    return syscall(SYS_pwrite64, fd, bytes, count, offset);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t offset) { return pwrite64(fd, bytes, count, offset); }

static size_t total(const struct iovec *parts, int count) {
    size_t bytes = 0;
    for (int i = 0; i < count; i++) {
        bytes += parts[i].iov_len;
    }
    return bytes;
}

/* Half of the first part that has anything to halve. */
static struct iovec half_of(const struct iovec *parts, int count) {
    for (int i = 0; i < count; i++) {
        if (parts[i].iov_len >= 2) {
            return (struct iovec){parts[i].iov_base, parts[i].iov_len / 2};
        }
        if (parts[i].iov_len == 1) {
            return parts[i];
        }
    }
    return (struct iovec){NULL, 0};
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char path[PATH_MAX];
    if (path_of(fd, path)) {
        struct iovec half = half_of(parts, count);
        switch (judge("writev", WRITES, total(parts, count), path)) {
        case FAIL:
            return -1;
        case HALVE:
            return halved(syscall(SYS_write, fd, half.iov_base, half.iov_len));
        case PROCEED:
            break;
        }
    }
    return syscall(SYS_writev, fd, parts, count);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t offset) {
    char path[PATH_MAX];
    if (path_of(fd, path)) {
        struct iovec half = half_of(parts, count);
        switch (judge("pwritev", WRITES, total(parts, count), path)) {
        case FAIL:
            return -1;
        case HALVE:
            return halved(syscall(SYS_pwrite64, fd, half.iov_base, half.iov_len, offset));
        case PROCEED:
            break;
        }
    }
    return syscall(SYS_pwritev, fd, parts, count, offset, 0L);
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) {
    return pwritev64(fd, parts, count, offset);
}

ssize_t copy_file_range(int from, off64_t *from_offset, int to, off64_t *to_offset, size_t count, unsigned int flags) {
    char path[PATH_MAX];
    if (path_of(to, path)) {
        switch (judge("copy_file_range", WRITES, count, path)) {
        case FAIL:
            return -1;
        case HALVE:
            return halved(syscall(SYS_copy_file_range, from, from_offset, to, to_offset, count / 2, flags));
        case PROCEED:
            break;
        }
    }
    return syscall(SYS_copy_file_range, from, from_offset, to, to_offset, count, flags);
}

ssize_t sendfile64(int to, int from, off64_t *offset, size_t count) {
    char path[PATH_MAX];
    if (path_of(to, path)) {
        switch (judge("sendfile", WRITES, count, path)) {
        case FAIL:
            return -1;
        case HALVE:
            return halved(syscall(SYS_sendfile, to, from, offset, count / 2));
        case PROCEED:
            break;
        }
    }
    return syscall(SYS_sendfile, to, from, offset, count);
}

ssize_t sendfile(int to, int from, off_t *offset, size_t count) { return sendfile64(to, from, offset, count); }

/* -- sizes ------------------------------------------------------------------------------------------------------ */

int ftruncate64(int fd, off64_t length) {
    char path[PATH_MAX];
    if (path_of(fd, path) && judge("ftruncate", NEEDS_SPACE, (size_t)length, path) == FAIL) {
        return -1;
    }
    return (int)syscall(SYS_ftruncate, fd, length);
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int truncate64(const char *name, off64_t length) {
    char path[PATH_MAX];
    if (resolve(AT_FDCWD, name, path) && judge("truncate", NEEDS_SPACE, (size_t)length, path) == FAIL) {
        return -1;
    }
    return (int)syscall(SYS_truncate, name, length);
}

int truncate(const char *name, off_t length) { return truncate64(name, length); }

int fallocate64(int fd, int mode, off64_t offset, off64_t length) {
    char path[PATH_MAX];
    if (path_of(fd, path) && judge("fallocate", NEEDS_SPACE, (size_t)length, path) == FAIL) {
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

int fallocate(int fd, int mode, off_t offset, off_t length) { return fallocate64(fd, mode, offset, length); }

int posix_fallocate64(int fd, off64_t offset, off64_t length) {
    /* This one answers its error instead of setting errno. */
    return fallocate64(fd, 0, offset, length) == 0 ? 0 : errno;
}

int posix_fallocate(int fd, off_t offset, off_t length) { return posix_fallocate64(fd, offset, length); }

/* -- syncing ---------------------------------------------------------------------------------------------------- */

/* A disk that allocates late says that it is full when it is asked to sync. */
int fsync(int fd) {
    char path[PATH_MAX];
    if (path_of(fd, path) && judge("fsync", NEEDS_SPACE, 0, path) == FAIL) {
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd) {
    char path[PATH_MAX];
    if (path_of(fd, path) && judge("fdatasync", NEEDS_SPACE, 0, path) == FAIL) {
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

int sync_file_range(int fd, off64_t offset, off64_t length, unsigned int flags) {
    char path[PATH_MAX];
    if (path_of(fd, path) && judge("sync_file_range", NEEDS_SPACE, (size_t)length, path) == FAIL) {
        return -1;
    }
    return (int)syscall(SYS_sync_file_range, fd, offset, length, flags);
}

int syncfs(int fd) {
    char path[PATH_MAX];
    if (path_of(fd, path) && judge("syncfs", NEEDS_SPACE, 0, path) == FAIL) {
        return -1;
    }
    return (int)syscall(SYS_syncfs, fd);
}

/* -- names ------------------------------------------------------------------------------------------------------ */

static int renamed(int from, const char *old, int to, const char *new, unsigned int flags) {
    char path[PATH_MAX];
    bool point = resolve(to, new, path) || resolve(from, old, path);
    if (point && judge("rename", NEEDS_SPACE, 0, path) == FAIL) {
        return -1;
    }
    return (int)syscall(SYS_renameat2, from, old, to, new, flags);
}

int rename(const char *old, const char *new) { return renamed(AT_FDCWD, old, AT_FDCWD, new, 0); }

int renameat(int from, const char *old, int to, const char *new) { return renamed(from, old, to, new, 0); }

int renameat2(int from, const char *old, int to, const char *new, unsigned int flags) {
    return renamed(from, old, to, new, flags);
}

int linkat(int from, const char *old, int to, const char *new, int flags) {
    char path[PATH_MAX];
    if (resolve(to, new, path) && judge("link", NEEDS_SPACE, 0, path) == FAIL) {
        return -1;
    }
    return (int)syscall(SYS_linkat, from, old, to, new, flags);
}

int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }

int symlinkat(const char *text, int to, const char *new) {
    char path[PATH_MAX];
    if (resolve(to, new, path) && judge("symlink", NEEDS_SPACE, 0, path) == FAIL) {
        return -1;
    }
    return (int)syscall(SYS_symlinkat, text, to, new);
}

int symlink(const char *text, const char *new) { return symlinkat(text, AT_FDCWD, new); }

int mkdirat(int directory, const char *name, mode_t mode) {
    char path[PATH_MAX];
    if (resolve(directory, name, path) && judge("mkdir", NEEDS_SPACE, 0, path) == FAIL) {
        return -1;
    }
    return (int)syscall(SYS_mkdirat, directory, name, mode);
}

int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int unlinkat(int directory, const char *name, int flags) {
    char path[PATH_MAX];
    const char *call = (flags & AT_REMOVEDIR) != 0 ? "rmdir" : "unlink";
    if (resolve(directory, name, path) && judge(call, OTHER, 0, path) == FAIL) {
        return -1;
    }
    return (int)syscall(SYS_unlinkat, directory, name, flags);
}

int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }

int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int remove(const char *name) {
    struct stat status;
    if (lstat(name, &status) != 0) {
        return -1;
    }
    return S_ISDIR(status.st_mode) ? rmdir(name) : unlink(name);
}
