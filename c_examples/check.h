/* What must hold, for programs that test: one that meets anything else says where and what, and ends. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <wharf.h>

/* A condition that must hold. */
#define CHECK(condition)                                                                        \
  do {                                                                                          \
    if (!(condition)) {                                                                         \
      fprintf(stderr, "%s, line %d: %s does not hold\n", __FILE__, __LINE__, #condition);       \
      exit(1);                                                                                  \
    }                                                                                           \
  } while (0)

/* A call of the library that must succeed. */
#define OK(call)                                                                                \
  do {                                                                                          \
    wharf_status status_ = (call);                                                              \
    if (status_ != WHARF_OK) {                                                                  \
      fprintf(stderr, "%s, line %d: %s: %s (%s)\n", __FILE__, __LINE__, #call,                  \
              wharf_status_name(status_), wharf_status_text(status_));                          \
      exit(1);                                                                                  \
    }                                                                                           \
  } while (0)

#endif
