"""A map from bytes to objects, asked with a pointer and a length.

A table of lines of the cache, each with some objects and their hashes, so that a question looks at one line and then at nothing but
the object that is asked for. It grows a few lines at a time: with a million mailboxes no single insert pays for moving all of them.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport UINT32_MAX, uintptr_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcpy

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

cdef enum:
    # How many calls ago a name was told of whose object is fetched now, and whose object if it is in the second line of its chain.
    # The last of them is below EXPECTED.
    EXPECTED_ITEM = 3
    EXPECTED_SECOND = 6

cdef enum:
    LINES_FIRST = 16
    # There are twice as many lines when each has so many objects on the average: few chains have a second line.
    FILL_MAX = 3
    # Lines moved per insert while growing: the old ones are empty long before the new ones are full.
    MOVES_PER_INSERT = 4


cdef inline PyObject* _first_like(Line* line, uint32_t hash_) noexcept:
    """The first object in the line that has this hash, or NULL."""
    cdef uint32_t at
    for at in range(line.count):
        if line.hashes[at] == hash_:
            return line.items[at]
    return NULL


cdef inline Line* _search(Line* line, uint32_t hash_, const char* name, size_t size, uint32_t* at) noexcept:
    """Look for a name in the chain that begins with `line`: the line that has it, with its place there in `at`, or NULL."""
    cdef uint32_t place
    while line != NULL:
        for place in range(line.count):
            if line.hashes[place] == hash_ and is_named(<Named>line.items[place], name, size):
                at[0] = place
                return line
        line = line.more
    return NULL


cdef int _open_lines(Lines* lines, size_t count) except -1:
    """As many empty lines, a power of two. Zeroed by the system where they are many, and not before they are used."""
    lines.memory = calloc(count + 1, sizeof(Line))
    if lines.memory == NULL:
        raise MemoryError()
    lines.first = <Line*>((<uintptr_t>lines.memory + CACHE_LINE - 1) // CACHE_LINE * CACHE_LINE)
    lines.mask = count - 1
    return 0


cdef int _put(Line* line, uint32_t hash_, PyObject* item, Line** spare) except -1:
    """Put an object into the chain that begins with `line`; if that must be longer, by one of the empty lines at `spare` if there is one."""
    while line.more != NULL:
        line = line.more
    if line.count == LINE_ITEMS:
        if spare[0] == NULL:
            line.more = <Line*>calloc(1, sizeof(Line))
            if line.more == NULL:
                raise MemoryError()
        else:
            line.more = spare[0]
            spare[0] = line.more.more
            line.more.more = NULL
        line = line.more
    line.hashes[line.count] = hash_
    line.items[line.count] = item
    line.count += 1
    return 0


cdef PyObject* _take_last(Line* line, uint32_t* hash_) noexcept:
    """Take the last object out of the chain that begins with `line`; NULL when there is none."""
    cdef Line* before = NULL
    cdef PyObject* item
    while line.more != NULL:
        before = line
        line = line.more
    if line.count == 0:
        return NULL
    line.count -= 1
    hash_[0] = line.hashes[line.count]
    item = line.items[line.count]
    if line.count == 0 and before != NULL:
        before.more = NULL
        free(line)
    return item


cdef int _list_items(Lines* lines, size_t at, list items) except -1:
    """Append all objects from line number `at` on."""
    cdef Line* line
    cdef uint32_t place
    while at <= lines.mask:
        line = &lines.first[at]
        while line != NULL:
            for place in range(line.count):
                items.append(<object>line.items[place])
            line = line.more
        at += 1
    return 0


cdef class Named:
    """An object that a ByteMap holds under `name`, which is not changed while one does."""

    def __dealloc__(self):
        self._drop_name()

    @property
    def name(self):
        return name_of(self)[:self.name_size]

    cdef int set_name(self, const char* name, size_t size) except -1:
        """Give the object a name."""
        cdef char* elsewhere
        if size > UINT32_MAX:
            raise ValueError("a name of more than 4 GB")
        if size <= NAME_SHORT:
            self._drop_name()
            memcpy(self._short, name, size)
        else:
            elsewhere = <char*>malloc(size)
            if elsewhere == NULL:
                raise MemoryError()
            memcpy(elsewhere, name, size)
            self._drop_name()
            memcpy(self._short, &elsewhere, sizeof(elsewhere))
        self.name_size = <uint32_t>size
        return 0

    cdef void _drop_name(self) noexcept:
        if self.name_size > NAME_SHORT:
            free(<void*>name_of(self))
        self.name_size = 0


cdef class ByteMap:
    """Objects by their names."""

    def __cinit__(self):
        _open_lines(&self._lines, LINES_FIRST)

    def __dealloc__(self):
        self.clear()
        free(self._lines.memory)
        free(self._old.memory)

    def __len__(self):
        return self.count

    cdef inline Line* _line(self, uint32_t hash_) noexcept:
        """Where the objects of this hash are."""
        if self._old.first != NULL and (hash_ & self._old.mask) >= self._moved:
            return &self._old.first[hash_ & self._old.mask]
        return &self._lines.first[hash_ & self._lines.mask]

    cdef PyObject* find(self, const char* name, size_t size) noexcept:
        """The object under `name`, borrowed, or NULL."""
        cdef uint32_t hash_ = mq9_hash(name, size)
        cdef uint32_t at
        cdef Line* line = _search(self._line(hash_), hash_, name, size, &at)
        return NULL if line == NULL else line.items[at]

    cdef void expect(self, const char* name, size_t size) noexcept:
        """This name will be asked for, after those of the last calls: fetch what that will look at.

        Among a million objects each question would wait for the line and then for the object. So a call fetches one of these for
        each of the names that were told of lately.
        """
        cdef PyObject* item
        cdef Line* line
        cdef int at
        for at in range(EXPECTED - 1, 0, -1):
            self._expected[at] = self._expected[at - 1]
        self._expected[0] = mq9_hash(name, size)
        prefetch(self._line(self._expected[0]))
        line = self._line(self._expected[EXPECTED_ITEM])
        item = _first_like(line, self._expected[EXPECTED_ITEM])
        if item != NULL:
            fetch_named(item)
        elif line.more != NULL:
            prefetch(line.more)
        line = self._line(self._expected[EXPECTED_SECOND])
        if line.more != NULL and _first_like(line, self._expected[EXPECTED_SECOND]) == NULL:
            item = _first_like(line.more, self._expected[EXPECTED_SECOND])
            if item != NULL:
                fetch_named(item)

    cdef int add(self, Named item) except -1:
        """Put `item` under its name, which must not be in the map yet."""
        cdef uint32_t hash_ = mq9_hash(name_of(item), item.name_size)
        cdef Line* spare = NULL
        if self.count >= FILL_MAX * (self._lines.mask + 1) and self._old.first == NULL:
            self._grow()
        self._move_some(MOVES_PER_INSERT)
        _put(self._line(hash_), hash_, <PyObject*>item, &spare)
        Py_INCREF(item)
        self.count += 1
        return 0

    cdef Named remove(self, const char* name, size_t size):
        """Take out and return the object under `name`, or None."""
        cdef uint32_t hash_ = mq9_hash(name, size)
        cdef uint32_t at, last_hash
        cdef Line* first = self._line(hash_)
        cdef Line* line = _search(first, hash_, name, size, &at)
        cdef PyObject* last
        cdef Named found
        if line == NULL:
            return None
        found = <Named>line.items[at]
        last = _take_last(first, &last_hash)
        if last != <PyObject*>found:  # the last one takes its place
            line.hashes[at] = last_hash
            line.items[at] = last
        Py_DECREF(found)
        self.count -= 1
        return found

    def get(self, bytes name not None):
        """The object under `name`, or None."""
        cdef PyObject* item = self.find(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))
        return None if item == NULL else <object>item

    def put(self, Named item not None):
        """Put `item` under its name in the place of what was there."""
        self.remove(name_of(item), item.name_size)
        self.add(item)

    def discard(self, bytes name not None):
        """Take out and return the object under `name`, or None."""
        return self.remove(PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name))

    def values(self):
        """All objects, in no order, as a list."""
        cdef list items = []
        _list_items(&self._lines, 0, items)
        if self._old.first != NULL:
            _list_items(&self._old, self._moved, items)
        return items

    def clear(self):
        """Take everything out."""
        if self._old.first != NULL:
            self._clear_lines(&self._old, self._moved)
        self._clear_lines(&self._lines, 0)

    cdef int _clear_lines(self, Lines* lines, size_t at) except -1:
        cdef PyObject* item
        cdef uint32_t hash_
        while at <= lines.mask:
            item = _take_last(&lines.first[at], &hash_)
            if item == NULL:
                at += 1
            else:
                self.count -= 1
                Py_DECREF(<object>item)
        return 0

    cdef int _grow(self) except -1:
        cdef Lines lines
        _open_lines(&lines, 2 * (self._lines.mask + 1))
        self._old = self._lines
        self._lines = lines
        self._moved = 0
        return 0

    cdef int _move_some(self, size_t steps) except -1:
        """Move the objects of some of the old lines to where they belong among the new ones."""
        while self._old.first != NULL and steps > 0:
            steps -= 1
            self._move(&self._old.first[self._moved])
            self._moved += 1
            if self._moved > self._old.mask:
                free(self._old.memory)
                self._old.memory = self._old.first = NULL
        return 0

    cdef int _move(self, Line* line) except -1:
        """Move the objects of a chain to two new ones, which need no more lines behind their first than it has: so it cannot fail."""
        cdef Line taken
        cdef Line* spare = NULL
        cdef uint32_t at
        taken = line[0]
        while True:
            for at in range(taken.count):
                _put(&self._lines.first[taken.hashes[at] & self._lines.mask], taken.hashes[at], taken.items[at], &spare)
            line = taken.more
            if line == NULL:
                break
            taken = line[0]
            line.more = spare
            line.count = 0
            spare = line
        while spare != NULL:
            line = spare.more
            free(spare)
            spare = line
        return 0
