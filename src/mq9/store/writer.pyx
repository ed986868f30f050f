"""The thread that writes frames to their segments and syncs them, one at a time, without ever taking the interpreter's lock.

So a commit costs the event loop nothing but handing it over and hearing that it is durable: no wait for a lock that the loop holds, nor
the loop for one that the thread holds, nor for the disk.

Waking a thread that sleeps took a quarter as long as a sync on the virtual machine that was measured on, and a commit would have to wait
for it twice. So while commits follow each other the thread does not go to sleep at once but looks for the next job. Where it sleeps, the
loop copies a small frame to the system itself and has it begin to write, so that the disk is at work while the thread wakes up. In both
cases the loop looks in its turns whether the job is done, for a lone one unless the last took longer than it would look. Both leave the
processor to whoever else wants it, and sleep when there is nothing to do.
"""

import asyncio
import os
import threading

from libc.errno cimport EINTR, EIO, errno
from libc.string cimport memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec
from posix.types cimport off_t

from mq9.store.frame cimport FRAME_HEAD, iovec

cdef extern from *:
    """
    /* Whatever a thread wrote before it set a word is seen by the one that reads the word. */
    #define word_get(word) __atomic_load_n(word, __ATOMIC_ACQUIRE)
    #define word_set(word, value) __atomic_store_n(word, value, __ATOMIC_RELEASE)
    #define word_swap(word, value) __atomic_exchange_n(word, value, __ATOMIC_ACQ_REL)
    """
    int word_get(int* word) nogil
    void* pointer_get "word_get"(void** word) nogil
    void pointer_set "word_set"(void** word, void* value) nogil
    void word_set(int* word, int value) nogil
    int word_swap(int* word, int value) nogil

cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef extern from "<sys/uio.h>" nogil:
    ssize_t pwritev(int file, const iovec* parts, int count, off_t offset)

cdef extern from "<fcntl.h>" nogil:
    int sync_file_range(int file, off_t offset, off_t size, unsigned int flags)
    const unsigned int SYNC_FILE_RANGE_WRITE

cdef extern from "<unistd.h>" nogil:
    int fdatasync(int file)
    ssize_t pwrite(int file, const void* data, size_t size, off_t offset)
    ssize_t write(int file, const void* data, size_t size)

cdef enum:
    # As many parts as a system takes in one call, by POSIX at least 16, by Linux 1,024.
    PARTS_MAX = 1024
    # A job that comes so soon after the one before follows it, and for so long the thread stays awake for the next.
    FOLLOWS_NS = 300_000
    # For so long the loop looks itself: more than most syncs take on a good disk.
    LOOKS_NS = 400_000
    # As many bytes are copied to the system in less time than a thread takes to wake up.
    SMALL_BYTES = 16_384
    NS_PER_S = 1_000_000_000

# How far a job is: the loop looks by itself, or is to be woken, or there is nothing to wait for.
cdef enum:
    LOOKED_FOR
    AWAITED
    DONE


cdef class Writer:
    """A running thread, which tells the running event loop."""

    def __init__(self):
        pthread_mutex_init(&self._mutex, NULL)
        pthread_cond_init(&self._asked, NULL)
        self._loop = asyncio.get_running_loop()
        self._progress = DONE
        self._took_ns = LOOKS_NS
        self._read_end, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._loop.add_reader(self._read_end, self._woken)
        self._thread = threading.Thread(target=self._work, name="mq9-commit", daemon=True)
        self._thread.start()

    def __dealloc__(self):
        pthread_cond_destroy(&self._asked)
        pthread_mutex_destroy(&self._mutex)

    def write(self, Frame frame not None, int file, uint64_t offset, told not None):
        """Write a frame into an open file and sync it, one at a time; `told` is called with None when it is durable, or an OSError."""
        if self._told is not None:
            raise RuntimeError("one frame is written at a time")
        cdef int64_t now = _now_ns()
        cdef bint looks
        self._told = told
        self._frame = frame
        self._file = file
        self._offset = offset
        self._asked_ns = now
        self._follows = now - self._ended_ns < FOLLOWS_NS
        self._is_written = not self._follows and frame.size <= SMALL_BYTES
        if self._is_written:
            self._error = self._write_whole(frame)
            # This may fail, or do nothing: it is the sync that counts.
            sync_file_range(file, <off_t>offset, <off_t>frame.size, SYNC_FILE_RANGE_WRITE)
        looks = self._follows or self._is_written and self._took_ns < LOOKS_NS
        word_set(&self._progress, LOOKED_FOR if looks else AWAITED)
        pthread_mutex_lock(&self._mutex)
        pointer_set(&self._job, <void*>frame)
        pthread_cond_signal(&self._asked)
        pthread_mutex_unlock(&self._mutex)
        if looks:
            self._looks_until_ns = now + LOOKS_NS
            self._loop.call_soon(self._look)

    def stop(self):
        """End the thread, which must have nothing to do."""
        pthread_mutex_lock(&self._mutex)
        self._ends = True
        pthread_cond_signal(&self._asked)
        pthread_mutex_unlock(&self._mutex)
        self._thread.join()
        self._loop.remove_reader(self._read_end)
        os.close(self._read_end)
        os.close(self._write_end)

    def _look(self):
        """See whether the job is done, in every turn of the loop; after a while have the thread wake the loop instead."""
        if word_get(&self._progress) == DONE:
            self._tell()
        elif _now_ns() < self._looks_until_ns:
            with nogil:
                sched_yield()
            self._loop.call_soon(self._look)
        elif word_swap(&self._progress, AWAITED) == DONE:
            self._tell()

    def _woken(self):
        """The thread says that the job is done."""
        try:
            os.read(self._read_end, 64)
        except BlockingIOError:
            return
        self._tell()

    cdef int _tell(self) except -1:
        """Tell who asked."""
        told, self._told = self._told, None
        self._frame = None
        told(OSError(self._error, os.strerror(self._error)) if self._error else None)
        return 0

    def _work(self):
        cdef Writer writer = self
        cdef void* job
        cdef bint follows = False
        with nogil:
            while True:
                job = writer._next(follows)
                if job == NULL:
                    break
                follows = writer._follows
                writer._error = writer._write(<Frame>job)
                writer._ended_ns = _now_ns()
                writer._took_ns = writer._ended_ns - writer._asked_ns
                if word_swap(&writer._progress, DONE) == AWAITED:
                    write(writer._write_end, b"!", 1)

    cdef void* _next(self, bint follows) noexcept nogil:
        """Wait for a job, awake for a while where the last one followed another at once; NULL when the thread is to end."""
        cdef void* job
        cdef int64_t until
        if follows:
            until = _now_ns() + FOLLOWS_NS
            while pointer_get(&self._job) == NULL and _now_ns() < until:
                sched_yield()
        pthread_mutex_lock(&self._mutex)
        while self._job == NULL and not self._ends:
            pthread_cond_wait(&self._asked, &self._mutex)
        job = self._job
        pointer_set(&self._job, NULL)
        pthread_mutex_unlock(&self._mutex)
        return job

    cdef int _write(self, Frame frame) noexcept nogil:
        """Write the frame, unless the loop has, and sync it; returns 0 or the errno of what went wrong, and then it is made illegible."""
        cdef int error = self._error if self._is_written else self._write_whole(frame)
        if error == 0:
            error = self._sync()
        if error:
            self._spoil()
        return error

    cdef void _spoil(self) noexcept nogil:
        """Write zeros where a frame was to begin that could not be made durable.

        Who waits for it is told that it is not stored. The system may have all of it nevertheless, though the disk may not: a broker
        that was killed now would find it at its next start, and give out what is not on the disk. Where not even this can be
        written, the next commit is written over it.
        """
        cdef char zeros[FRAME_HEAD]
        memset(zeros, 0, FRAME_HEAD)
        if pwrite(self._file, zeros, FRAME_HEAD, <off_t>self._offset) > 0:
            fdatasync(self._file)

    cdef int _write_whole(self, Frame frame) noexcept nogil:
        """Have the system take the frame; returns 0 or the errno of what went wrong."""
        cdef iovec* part = frame.parts
        cdef int left = frame.part_count
        cdef off_t offset = <off_t>self._offset
        cdef ssize_t written
        frame.finish()
        while left:
            written = pwritev(self._file, part, min(left, <int>PARTS_MAX), offset)
            if written < 0 and errno == EINTR:
                continue
            if written <= 0:
                return errno if written < 0 else EIO
            offset += written
            while left and <size_t>written >= part.iov_len:
                written -= part.iov_len
                part += 1
                left -= 1
            if left:
                part.iov_base = <char*>part.iov_base + written
                part.iov_len -= written
        return 0

    cdef int _sync(self) noexcept nogil:
        """Wait until the disk has what was written; returns 0 or the errno of what went wrong."""
        while fdatasync(self._file) != 0:
            if errno != EINTR:
                return errno
        return 0


cdef int64_t _now_ns() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <int64_t>now.tv_sec * NS_PER_S + now.tv_nsec
