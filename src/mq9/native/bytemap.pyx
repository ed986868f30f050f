"""A map from bytes to objects, asked with a pointer and a length.

Chained, with the chain running through the objects, so an entry costs one bucket pointer and no key object of its own. It grows
a few buckets at a time: with a million mailboxes no single insert pays for moving all of them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp

from mq9.native.memory cimport CACHE_LINE, prefetch

cdef extern from *:
    """
    /* CPython's own keyed hash (SipHash): names come from outside and must not be able to collide on purpose. */
    #if PY_VERSION_HEX >= 0x030E0000
    #define mq9_hash(data, size) ((uint32_t)Py_HashBuffer((data), (Py_ssize_t)(size)))
    #else
    #define mq9_hash(data, size) ((uint32_t)_Py_HashBytes((data), (Py_ssize_t)(size)))
    #endif
    """
    uint32_t mq9_hash(const char* data, size_t size) noexcept

cdef extern from "Python.h":
    const char* bytes_data "PyBytes_AS_STRING"(PyObject* name) noexcept
    Py_ssize_t bytes_size "PyBytes_GET_SIZE"(PyObject* name) noexcept

cdef enum:
    # How many calls ago a name was told of whose object is fetched now; whose name, or the second object of its bucket; and the name
    # of that one. The last of them is below EXPECTED.
    EXPECTED_ITEM = 3
    EXPECTED_NAME = 6
    EXPECTED_SECOND = 8

cdef enum:
    BUCKETS_FIRST = 64
    # Of a bytes object: where its length is, before its first byte.
    SIZE_BEFORE_BYTES = 16
    # As long as a mail_id that the broker makes up.
    NAME_BYTES = 28
    # Buckets moved per insert while growing: the old table is empty long before the new one is full.
    MOVES_PER_INSERT = 8


cdef class Named:
    """An object that a ByteMap holds under `name`."""

    def __cinit__(self):
        self._next = NULL


cdef inline const char* _name(PyObject* item) noexcept:
    # No reference is taken: that would wait for the name's own head.
    return bytes_data(<PyObject*>(<Named>item).name)


cdef inline void _fetch_name(PyObject* item) noexcept:
    # The length lies before the bytes, often in another line of the cache, and the end of the bytes behind their beginning.
    prefetch(_name(item) - SIZE_BEFORE_BYTES)
    prefetch(_name(item) + NAME_BYTES - 1)


cdef inline bint _is(PyObject* item, uint32_t hash_, const char* name, size_t size) noexcept:
    return (<Named>item)._hash == hash_ and <size_t>bytes_size(<PyObject*>(<Named>item).name) == size \
        and memcmp(_name(item), name, size) == 0


cdef class ByteMap:
    """Objects by their names."""

    def __cinit__(self):
        self._buckets = <PyObject**>calloc(BUCKETS_FIRST, sizeof(PyObject*))
        if self._buckets == NULL:
            raise MemoryError()
        self._mask = BUCKETS_FIRST - 1

    def __dealloc__(self):
        self.clear()
        free(self._buckets)

    def __len__(self):
        return self.count

    cdef PyObject* find(self, const char* name, size_t size) noexcept:
        """The object under `name`, borrowed, or NULL."""
        cdef uint32_t hash_ = mq9_hash(name, size)
        cdef PyObject* item = self._buckets[hash_ & self._mask]
        while item != NULL:
            if _is(item, hash_, name, size):
                return item
            item = (<Named>item)._next
        if self._old_buckets != NULL:
            item = self._old_buckets[hash_ & self._old_mask]
            while item != NULL:
                if _is(item, hash_, name, size):
                    return item
                item = (<Named>item)._next
        return NULL

    cdef void expect(self, const char* name, size_t size) noexcept:
        """This name will be asked for, after those of the last calls: fetch what that will look at.

        Among a million objects each question would wait for the bucket, the object and the object's name, one after the other.
        So a call fetches one of these for each of the names that were told of lately.
        """
        cdef PyObject* item
        cdef uint32_t hash_
        cdef int at
        for at in range(EXPECTED - 1, 0, -1):
            self._expected[at] = self._expected[at - 1]
        self._expected[0] = mq9_hash(name, size)
        prefetch(&self._buckets[self._expected[0] & self._mask])
        item = self._buckets[self._expected[EXPECTED_ITEM] & self._mask]
        if item != NULL:
            prefetch(item)
            prefetch(<char*>item + CACHE_LINE)
            prefetch(<char*>item + 2 * CACHE_LINE)
        hash_ = self._expected[EXPECTED_NAME]
        item = self._buckets[hash_ & self._mask]
        if item != NULL:
            if (<Named>item)._hash == hash_:
                _fetch_name(item)
            else:
                prefetch((<Named>item)._next)
        hash_ = self._expected[EXPECTED_SECOND]
        item = self._buckets[hash_ & self._mask]
        if item != NULL and (<Named>item)._hash != hash_ and (<Named>item)._next != NULL:
            _fetch_name((<Named>item)._next)

    cdef int add(self, Named item) except -1:
        """Put `item` under its name, which must not be in the map yet."""
        cdef PyObject** bucket
        if self.count > self._mask and self._old_buckets == NULL:
            self._grow()
        self._move_some(MOVES_PER_INSERT)
        item._hash = mq9_hash(PyBytes_AS_STRING(item.name), PyBytes_GET_SIZE(item.name))
        bucket = &self._buckets[item._hash & self._mask]
        item._next = bucket[0]
        Py_INCREF(item)
        bucket[0] = <PyObject*>item
        self.count += 1
        return 0

    cdef Named remove(self, const char* name, size_t size):
        """Take out and return the object under `name`, or None."""
        cdef uint32_t hash_ = mq9_hash(name, size)
        cdef PyObject** link = &self._buckets[hash_ & self._mask]
        cdef Named found
        cdef int table
        for table in range(2):
            while link[0] != NULL:
                if _is(link[0], hash_, name, size):
                    found = <Named>link[0]
                    link[0] = found._next
                    found._next = NULL
                    Py_DECREF(found)
                    self.count -= 1
                    return found
                link = &(<Named>link[0])._next
            if self._old_buckets == NULL:
                break
            link = &self._old_buckets[hash_ & self._old_mask]
        return None

    def get(self, bytes name not None):
        """The object under `name`, or None."""
        cdef PyObject* item = self.find(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
        return None if item == NULL else <object>item

    def put(self, Named item not None):
        """Put `item` under its name in the place of what was there."""
        self.remove(PyBytes_AS_STRING(item.name), PyBytes_GET_SIZE(item.name))
        self.add(item)

    def discard(self, bytes name not None):
        """Take out and return the object under `name`, or None."""
        return self.remove(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))

    def values(self):
        """All objects, in no order, as a list."""
        cdef list items = []
        cdef PyObject* item
        cdef size_t at
        for at in range(self._mask + 1):
            item = self._buckets[at]
            while item != NULL:
                items.append(<object>item)
                item = (<Named>item)._next
        if self._old_buckets != NULL:
            for at in range(self._moved, self._old_mask + 1):
                item = self._old_buckets[at]
                while item != NULL:
                    items.append(<object>item)
                    item = (<Named>item)._next
        return items

    def clear(self):
        """Take everything out."""
        cdef PyObject* item
        cdef Named named
        cdef size_t at
        if self._old_buckets != NULL:
            self._move_some(self._old_mask + 1)
        for at in range(self._mask + 1):
            item = self._buckets[at]
            self._buckets[at] = NULL
            while item != NULL:
                named = <Named>item
                item = named._next
                named._next = NULL
                Py_DECREF(named)
        self.count = 0

    cdef int _grow(self) except -1:
        cdef size_t size = (self._mask + 1) * 2
        cdef PyObject** buckets = <PyObject**>calloc(size, sizeof(PyObject*))
        if buckets == NULL:
            raise MemoryError()
        self._old_buckets = self._buckets
        self._old_mask = self._mask
        self._moved = 0
        self._buckets = buckets
        self._mask = size - 1
        return 0

    cdef void _move_some(self, size_t steps) noexcept:
        cdef PyObject* item
        cdef PyObject* following
        cdef PyObject** bucket
        while self._old_buckets != NULL and steps > 0:
            steps -= 1
            item = self._old_buckets[self._moved]
            self._old_buckets[self._moved] = NULL
            while item != NULL:
                following = (<Named>item)._next
                bucket = &self._buckets[(<Named>item)._hash & self._mask]
                (<Named>item)._next = bucket[0]
                bucket[0] = item
                item = following
            self._moved += 1
            if self._moved > self._old_mask:
                free(self._old_buckets)
                self._old_buckets = NULL
