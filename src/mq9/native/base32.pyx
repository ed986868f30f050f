"""Base32 in lower case, as mail_ids and drop_ids are written: a-z and 2-7, the first bit first, without padding."""

cdef const char* DIGITS = b"abcdefghijklmnopqrstuvwxyz234567"

cdef enum:
    SIZE_MAX = 64


def base32(bytes data not None, int size):
    """The first `size` characters, at most 64, of `data`, which must have five bits for each."""
    cdef char text[SIZE_MAX]
    cdef const unsigned char* at = data
    cdef unsigned int bits = 0
    cdef int have = 0, written
    if not 0 <= size <= SIZE_MAX or size * 5 > len(data) * 8:
        raise ValueError("there are not so many characters")
    for written in range(size):
        if have < 5:
            bits = (bits << 8 | at[0]) & 0xffff
            at += 1
            have += 8
        have -= 5
        text[written] = DIGITS[bits >> have & 31]
    return text[:size]
