/* Where the values of events stand in the body of a request: what `_scan.c` offers to `_places.c`. */

#ifndef TALLYBOOK_SCAN_H
#define TALLYBOOK_SCAN_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/* Rows of places: attributes, the data, one for each path, and the event itself as the last. */
enum { ID, SOURCE, TYPE, SUBJECT, TIME, DATA, NAMED };

/* Paths as a tree; a node is a step that some path takes. */
typedef struct Node Node;

/* Bounds of a request. */
typedef struct {
    ptrdiff_t events, event_bytes, attribute_bytes;
} Limits;

/* Events that were found: for each one behind the other the start and the end of every row, -1 for
 * what it has not, and whether it declares that its data is JSON. */
typedef struct {
    int32_t *cells;
    unsigned char *declared;
    ptrdiff_t count, room;
} Found;

/* Return the root of a tree without paths; NULL without memory. */
Node *new_tree(void);

/* Return the node of one more step, made where it is new: a key, or an index with NULL as its key.
 * NULL without memory. */
Node *grown(Node *node, const char *key, ptrdiff_t size);

/* Let a row's path end at a node; whether there was memory. */
int ends_here(Node *node, int32_t row);

void free_tree(Node *root);

/* Find the events of a body, which has a zero behind its last byte: 1 where they are, 0 where the
 * body has to be read by another road, -1 without memory. What was found is the caller's to free. */
int scan(const char *body, ptrdiff_t size, const Node *paths, ptrdiff_t rows, Limits limits,
         Found *found);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
