/* A piece of somebody else's bytes. */
#ifndef TEXT_H
#define TEXT_H

#include <stddef.h>

struct text {
    const char *start;
    size_t size;
};

#endif
