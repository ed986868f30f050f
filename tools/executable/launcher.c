/* The executable `mq9`: a Python interpreter and everything that mq9 needs, in one file and one process.
 *
 * Behind this program lie, in the same file, the shared libraries that Python needs, an archive with all modules, and an index of the
 * libraries (tools/executable/build.py writes them). Libraries are loaded from memory: nothing is unpacked to the disk, so nothing is
 * left there however the process ends, and the process that was started is the broker, so signals reach it. Where /proc is not
 * mounted there is no name for memory; then each library is a file in TMPDIR for as long as loading it takes.
 *
 * Nothing of the machine's own Python is used, and no variable of the environment that is for Python.
 */

#define _GNU_SOURCE
#include <Python.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#define MAGIC "mq9:one1"
#define NAME_MAX_BYTES 64

/* As build.py packs them, at the end of the file: entries, and then the tail. */
struct entry {
    char name[NAME_MAX_BYTES];
    unsigned long long offset, size;
};

struct tail {
    unsigned long long index, count;
    char magic[8];
};

static void *python;

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "mq9: %s: %s\n", what, why);
    exit(1);
}

/* The function of Python that is called so. */
static void *function(const char *name)
{
    void *found = dlsym(python, name);
    if (found == NULL)
        fail("the executable is damaged", dlerror());
    return found;
}

static int open_myself(void)
{
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (file < 0)
        file = open((const char *)getauxval(AT_EXECFN), O_RDONLY | O_CLOEXEC);
    if (file < 0)
        fail("cannot read the executable", strerror(errno));
    return file;
}

static void copy(int from, const struct entry *entry, int to)
{
    off_t offset = (off_t)entry->offset;
    size_t left = entry->size;
    while (left > 0) {
        ssize_t copied = sendfile(to, from, &offset, left);
        if (copied <= 0)
            fail(entry->name, copied < 0 ? strerror(errno) : "the executable is cut short");
        left -= (size_t)copied;
    }
}

static void *load(int from, const struct entry *entry)
{
    char path[PATH_MAX];
    const char *directory = getenv("TMPDIR");
    int has_proc = access("/proc/self/fd", X_OK) == 0;
    int file = has_proc ? memfd_create(entry->name, MFD_CLOEXEC) : -1;
    if (file >= 0) {
        snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    } else {
        snprintf(path, sizeof path, "%s/mq9-XXXXXX", directory ? directory : P_tmpdir);
        file = mkostemp(path, O_CLOEXEC);
        has_proc = 0;
    }
    if (file < 0)
        fail("/proc is not mounted, and no file can be made in TMPDIR instead", strerror(errno));
    copy(from, entry, file);
    void *library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!has_proc)
        unlink(path);
    if (library == NULL)
        fail("cannot load a library", dlerror());
    /* The descriptor stays: a path that names another library later would be taken for this one. */
    return library;
}

static void load_all(int file)
{
    struct tail tail;
    struct entry entry;
    off_t end = lseek(file, 0, SEEK_END);
    if (pread(file, &tail, sizeof tail, end - (off_t)sizeof tail) != sizeof tail || memcmp(tail.magic, MAGIC, 8) != 0)
        fail("the executable is damaged", "it has no index");
    for (unsigned long long number = 0; number < tail.count; number++) {
        off_t at = (off_t)(tail.index + number * sizeof entry);
        if (pread(file, &entry, sizeof entry, at) != sizeof entry)
            fail("the executable is damaged", "its index is cut short");
        python = load(file, &entry); /* the last one is Python */
    }
}

int main(int argc, char **argv)
{
    int file = open_myself();
    load_all(file);

    /* By descriptor, so that it is this file even when another one has taken its name. */
    wchar_t archive[PATH_MAX];
    if (access("/proc/self/fd", X_OK) == 0)
        swprintf(archive, PATH_MAX, L"/proc/self/fd/%d", file);
    else
        swprintf(archive, PATH_MAX, L"%s", (const char *)getauxval(AT_EXECFN));

    PyPreConfig before;
    PyConfig config;
    PyStatus status;
    ((void (*)(PyPreConfig *))function("PyPreConfig_InitIsolatedConfig"))(&before);
    before.utf8_mode = 1;
    status = ((PyStatus(*)(const PyPreConfig *))function("Py_PreInitialize"))(&before);
    int (*failed)(PyStatus) = (int (*)(PyStatus))function("PyStatus_Exception");
    void (*leave)(PyStatus) = (void (*)(PyStatus))function("Py_ExitStatusException");
    PyStatus (*set)(PyConfig *, wchar_t **, const wchar_t *) =
        (PyStatus(*)(PyConfig *, wchar_t **, const wchar_t *))function("PyConfig_SetString");
    if (failed(status))
        leave(status);

    ((void (*)(PyConfig *))function("PyConfig_InitIsolatedConfig"))(&config);
    config.site_import = 0;
    config.write_bytecode = 0;
    config.module_search_paths_set = 1;
    config.install_signal_handlers = 1;
    status = ((PyStatus(*)(PyConfig *, Py_ssize_t, char *const *))function("PyConfig_SetBytesArgv"))(&config, argc, argv);
    if (failed(status))
        leave(status);
    wchar_t **names[] = {&config.program_name, &config.executable, &config.base_executable, &config.prefix,
                         &config.base_prefix, &config.exec_prefix, &config.base_exec_prefix, &config.home};
    for (size_t at = 0; at < sizeof names / sizeof *names; at++)
        if (failed(status = set(&config, names[at], archive)))
            leave(status);
    if (failed(status = set(&config, &config.run_command, L"import mq9_entry")))
        leave(status);
    status = ((PyStatus(*)(PyWideStringList *, const wchar_t *))function("PyWideStringList_Append"))(
        &config.module_search_paths, archive);
    if (failed(status))
        leave(status);
    status = ((PyStatus(*)(const PyConfig *))function("Py_InitializeFromConfig"))(&config);
    if (failed(status))
        leave(status);
    return ((int (*)(void))function("Py_RunMain"))();
}
