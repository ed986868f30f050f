"""The thread that writes frames to their segments and syncs them, one at a time, without ever taking the interpreter's lock.

So a commit costs the event loop nothing but handing it over and hearing that it is durable: no wait for a lock that the loop holds, nor
the loop for one that the thread holds.
"""

import asyncio
import os
import threading

from libc.errno cimport EINTR, EIO, errno
from libc.string cimport memset
from posix.types cimport off_t

from mq9.store.frame cimport FRAME_HEAD, iovec

cdef extern from "<sys/uio.h>" nogil:
    ssize_t pwritev(int file, const iovec* parts, int count, off_t offset)

cdef extern from "<unistd.h>" nogil:
    int fdatasync(int file)
    ssize_t pwrite(int file, const void* data, size_t size, off_t offset)
    ssize_t write(int file, const void* data, size_t size)

cdef enum:
    # As many parts as a system takes in one call, by POSIX at least 16, by Linux 1,024.
    PARTS_MAX = 1024


cdef class Writer:
    """A running thread, which tells the running event loop."""

    def __init__(self):
        pthread_mutex_init(&self._mutex, NULL)
        pthread_cond_init(&self._asked, NULL)
        self._loop = asyncio.get_running_loop()
        self._read_end, self._write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._loop.add_reader(self._read_end, self._finished)
        self._thread = threading.Thread(target=self._work, name="mq9-commit", daemon=True)
        self._thread.start()

    def __dealloc__(self):
        pthread_cond_destroy(&self._asked)
        pthread_mutex_destroy(&self._mutex)

    def write(self, Frame frame not None, int file, uint64_t offset, told not None):
        """Write a frame into an open file and sync it, one at a time; `told` is called with None when it is durable, or an OSError."""
        if self._told is not None:
            raise RuntimeError("one frame is written at a time")
        self._told = told
        self._frame = frame
        pthread_mutex_lock(&self._mutex)
        self._file = file
        self._offset = offset
        self._job = <void*>frame
        pthread_cond_signal(&self._asked)
        pthread_mutex_unlock(&self._mutex)

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

    def _finished(self):
        """The thread has done what it was given."""
        try:
            os.read(self._read_end, 64)
        except BlockingIOError:
            return
        told, self._told = self._told, None
        self._frame = None
        told(OSError(self._error, os.strerror(self._error)) if self._error else None)

    def _work(self):
        cdef Writer writer = self
        cdef void* job
        with nogil:
            while True:
                pthread_mutex_lock(&writer._mutex)
                while writer._job == NULL and not writer._ends:
                    pthread_cond_wait(&writer._asked, &writer._mutex)
                job = writer._job
                writer._job = NULL
                pthread_mutex_unlock(&writer._mutex)
                if job == NULL:
                    break
                writer._error = writer._write(<Frame>job)
                write(writer._write_end, b"!", 1)

    cdef int _write(self, Frame frame) noexcept nogil:
        """Write the frame whole and sync it; returns 0 or the errno of what went wrong, and then the frame is made illegible again."""
        cdef int error = self._write_whole(frame)
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
        """Write the frame and sync it; returns 0 or the errno of what went wrong."""
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
        while fdatasync(self._file) != 0:
            if errno != EINTR:
                return errno
        return 0
