# CRC-32C, the checksum of what is stored. See checksum.pyx.

from libc.stdint cimport uint32_t

cdef uint32_t crc32c(uint32_t crc, const char* data, size_t size) noexcept nogil
