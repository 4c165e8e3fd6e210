/* Counts the calls that a process makes on the files of one folder, and SQLite's allocations, and fails the n-th.
 *
 * Loaded by LD_PRELOAD. FAULTS_FOLDER is the folder, FAULTS_CONTROL a file of one `struct control`, which the test
 * shares: it arms a fault while the process runs and reads how many calls there were. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { WRITE, SYNC, OPEN, TRUNCATE, MAP, READ, MEMORY, STATEMENT, KINDS };

struct control {
    int64_t kind, at, lasting, code, hits;
    int64_t counts[KINDS];
};

#define FILES 65536
static struct control *control;
static char folder[4096];
static size_t folder_length;
static unsigned char watched[FILES];
static uintptr_t text_begin, text_end;

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int find_sqlite(struct dl_phdr_info *info, size_t size, void *data) {
    (void)size, (void)data;
    if (!info->dlpi_name || !strstr(info->dlpi_name, "libsqlite3"))
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && (part->p_flags & PF_X)) {
            text_begin = info->dlpi_addr + part->p_vaddr;
            text_end = text_begin + part->p_memsz;
        }
    }
    return 1;
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_CONTROL"), *within = getenv("FAULTS_FOLDER");
    if (!path || !within)
        return;
    int fd = REAL(open64)(path, O_RDWR | O_CLOEXEC);
    void *shared = fd < 0 ? MAP_FAILED : REAL(mmap64)(0, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED)
        abort();
    close(fd);
    strncpy(folder, within, sizeof folder - 1);
    folder_length = strlen(folder);
    control = shared;
}

/* Whether this call is the one that fails; errno says how. */
static int fails(enum kind kind) {
    int64_t n = __atomic_add_fetch(&control->counts[kind], 1, __ATOMIC_SEQ_CST);
    int64_t at = __atomic_load_n(&control->at, __ATOMIC_SEQ_CST);
    if (control->kind != kind || !at || n < at || (n > at && !control->lasting))
        return 0;
    __atomic_add_fetch(&control->hits, 1, __ATOMIC_SEQ_CST);
    errno = (int)control->code;
    return 1;
}

static int is_watched(int fd) { return control && fd >= 0 && fd < FILES && watched[fd]; }

static int within(const char *path) {
    return control && path && !strncmp(path, folder, folder_length) && path[folder_length] == '/';
}

static int opened(const char *path, int fd) {
    if (fd >= 0 && fd < FILES) {
        watched[fd] = within(path);
        if (watched[fd] && !text_begin)
            dl_iterate_phdr(find_sqlite, 0);
    }
    return fd;
}

#define MODE(last) \
    mode_t mode = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, last); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) {
    MODE(flags)
    return within(path) && fails(OPEN) ? -1 : opened(path, REAL(open)(path, flags, mode));
}

int open64(const char *path, int flags, ...) {
    MODE(flags)
    return within(path) && fails(OPEN) ? -1 : opened(path, REAL(open64)(path, flags, mode));
}

int openat(int dir, const char *path, int flags, ...) {
    MODE(flags)
    return within(path) && fails(OPEN) ? -1 : opened(path, REAL(openat)(dir, path, flags, mode));
}

int openat64(int dir, const char *path, int flags, ...) {
    MODE(flags)
    return within(path) && fails(OPEN) ? -1 : opened(path, REAL(openat64)(dir, path, flags, mode));
}

int close(int fd) {
    if (fd >= 0 && fd < FILES)
        watched[fd] = 0;
    return REAL(close)(fd);
}

#define FAILING(kind, answer, name, parameters, arguments) \
    answer name parameters { return is_watched(fd) && fails(kind) ? (answer)-1 : REAL(name) arguments; }

FAILING(WRITE, ssize_t, write, (int fd, const void *from, size_t n), (fd, from, n))
FAILING(WRITE, ssize_t, pwrite, (int fd, const void *from, size_t n, off_t at), (fd, from, n, at))
FAILING(WRITE, ssize_t, pwrite64, (int fd, const void *from, size_t n, off64_t at), (fd, from, n, at))
FAILING(WRITE, ssize_t, writev, (int fd, const struct iovec *from, int n), (fd, from, n))
FAILING(READ, ssize_t, read, (int fd, void *to, size_t n), (fd, to, n))
FAILING(READ, ssize_t, pread, (int fd, void *to, size_t n, off_t at), (fd, to, n, at))
FAILING(READ, ssize_t, pread64, (int fd, void *to, size_t n, off64_t at), (fd, to, n, at))
FAILING(SYNC, int, fsync, (int fd), (fd))
FAILING(SYNC, int, fdatasync, (int fd), (fd))
FAILING(TRUNCATE, int, ftruncate, (int fd, off_t size), (fd, size))
FAILING(TRUNCATE, int, ftruncate64, (int fd, off64_t size), (fd, size))
FAILING(TRUNCATE, int, fallocate, (int fd, int mode, off_t at, off_t n), (fd, mode, at, n))
FAILING(TRUNCATE, int, fallocate64, (int fd, int mode, off64_t at, off64_t n), (fd, mode, at, n))

void *mmap(void *at, size_t n, int rights, int flags, int fd, off_t from) {
    return is_watched(fd) && fails(MAP) ? MAP_FAILED : REAL(mmap)(at, n, rights, flags, fd, from);
}

void *mmap64(void *at, size_t n, int rights, int flags, int fd, off64_t from) {
    return is_watched(fd) && fails(MAP) ? MAP_FAILED : REAL(mmap64)(at, n, rights, flags, fd, from);
}

static int of_sqlite(void *caller) { return (uintptr_t)caller >= text_begin && (uintptr_t)caller < text_end; }

#define LACKS (of_sqlite(__builtin_return_address(0)) && fails(MEMORY))

void *malloc(size_t n) { return LACKS ? 0 : __libc_malloc(n); }
void *calloc(size_t n, size_t size) { return LACKS ? 0 : __libc_calloc(n, size); }
void *realloc(void *old, size_t n) { return LACKS ? 0 : __libc_realloc(old, n); }
