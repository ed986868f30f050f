# The thread that writes frames and syncs them. See writer.pyx.

from libc.stdint cimport int64_t, uint64_t

from mq9.store.frame cimport Frame

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    ctypedef struct pthread_cond_t:
        pass
    int pthread_mutex_init(pthread_mutex_t* mutex, const void* attributes)
    int pthread_mutex_destroy(pthread_mutex_t* mutex)
    int pthread_mutex_lock(pthread_mutex_t* mutex)
    int pthread_mutex_unlock(pthread_mutex_t* mutex)
    int pthread_cond_init(pthread_cond_t* condition, const void* attributes)
    int pthread_cond_destroy(pthread_cond_t* condition)
    int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex)
    int pthread_cond_signal(pthread_cond_t* condition)


cdef class Writer:
    cdef object _loop
    cdef object _thread
    cdef object _told
    cdef int _read_end, _write_end         # of the pipe that wakes the loop
    # What is to be written, for the thread, which knows no Python: of the loop until _job is set, under the mutex.
    cdef pthread_mutex_t _mutex
    cdef pthread_cond_t _asked
    cdef Frame _frame
    cdef void* _job                        # _frame while it is to be written; seen outside the mutex, too
    cdef int _file
    cdef uint64_t _offset
    cdef bint _is_written                  # by the loop, which has only the sync left to be done
    cdef bint _follows                     # the job before at once
    cdef int64_t _asked_ns                 # when the job came
    cdef bint _ends
    # How far the job is, which both sides see, and what they see when it is done.
    cdef int _progress
    cdef int _error                        # errno of the last job, or of its writing
    cdef int64_t _ended_ns                 # when it was done
    cdef int64_t _took_ns                  # since it had come
    # Until when the loop looks whether it is done.
    cdef int64_t _looks_until_ns

    cdef int _tell(self) except -1
    cdef void* _next(self, bint follows) noexcept nogil
    cdef int _write(self, Frame frame) noexcept nogil
    cdef int _write_whole(self, Frame frame) noexcept nogil
    cdef int _sync(self) noexcept nogil
    cdef void _spoil(self) noexcept nogil
