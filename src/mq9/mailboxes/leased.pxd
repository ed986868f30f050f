# Messages as FETCH shows them, written as JSON straight from their blocks. See leased.pyx.

from mq9.native.memory cimport buffer_t

cdef int append_leased(buffer_t* json, const char* record, int attempt) except -1
