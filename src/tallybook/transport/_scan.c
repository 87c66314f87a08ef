/* Where the values of events stand in the body of a request, found in one pass (ADR 0021).
 *
 * The pass proves that the body is JSON which every reader reads alike, and knows where each value
 * begins and ends; it makes nothing of the values. What it does not take for certain, it does not
 * take at all: escapes, line breaks, a key that an object has twice, keys of events that are no
 * attributes of ours, an empty or long attribute, deep nesting. Another road then reads the same
 * body and says what is wrong with it, if anything is.
 *
 * Every read is below `end`, but for the one byte there: it is zero, which no rule below takes for
 * part of a value.
 */

#include "_scan.h"

#include <stdlib.h>
#include <string.h>

typedef const unsigned char *Place;

enum { SPECVERSION = NAMED, DECLARED };                   /* keys of events that have no row */
enum { DEPTH_MAX = 16, KEYS_MAX = 64, BUCKETS = 64 };

static const struct { const char *name; size_t size; } KEYS[] = {
    {"id", 2}, {"source", 6}, {"type", 4}, {"subject", 7}, {"time", 4}, {"data", 4},
    {"specversion", 11}, {"datacontenttype", 15},
};
static const unsigned REQUIRED = 1u << ID | 1u << SOURCE | 1u << TYPE | 1u << SPECVERSION;

/* ------------------------------------------------------------------------- paths, as a tree */

typedef struct Branch {
    struct Branch *next;      /* of the same bucket */
    char *key;                /* NULL where it is an index */
    ptrdiff_t size;           /* of the key, or the index */
    Node *node;
} Branch;
struct Node {
    Branch *buckets[BUCKETS];
    int32_t *rows;            /* whose path ends here */
    ptrdiff_t count;
};

/* Return the bucket of a step, by all bytes of a key (FNV-1a): names that differ in one letter are
 * what columns are called. */
static unsigned
bucket(const char *key, ptrdiff_t size)
{
    if (key == NULL)
        return (unsigned)size % BUCKETS;
    uint32_t mixed = 2166136261u;
    for (ptrdiff_t i = 0; i < size; i++)
        mixed = (mixed ^ (unsigned char)key[i]) * 16777619u;
    return mixed % BUCKETS;
}

static const Branch *
branch(const Node *node, const char *key, ptrdiff_t size)
{
    if (node == NULL)
        return NULL;
    const Branch *one = node->buckets[bucket(key, size)];
    while (one != NULL) {
        if (one->size == size && (one->key == NULL) == (key == NULL)
            && (key == NULL || memcmp(one->key, key, (size_t)size) == 0))
            return one;
        one = one->next;
    }
    return NULL;
}

static const Node *
child(const Node *node, const char *key, ptrdiff_t size)
{
    const Branch *found = branch(node, key, size);
    return found == NULL ? NULL : found->node;
}

Node *
new_tree(void)
{
    return calloc(1, sizeof(Node));
}

void
free_tree(Node *node)
{
    if (node == NULL)
        return;
    for (int i = 0; i < BUCKETS; i++) {
        for (Branch *one = node->buckets[i], *next; one != NULL; one = next) {
            next = one->next;
            free_tree(one->node);
            free(one->key);
            free(one);
        }
    }
    free(node->rows);
    free(node);
}

Node *
grown(Node *node, const char *key, ptrdiff_t size)
{
    Branch *one = (Branch *)branch(node, key, size);
    if (one != NULL)
        return one->node;
    one = calloc(1, sizeof(Branch));
    Node *made = new_tree();
    char *copy = key == NULL ? NULL : malloc((size_t)size + 1);
    if (one == NULL || made == NULL || (key != NULL && copy == NULL)) {
        free(one);
        free(made);
        free(copy);
        return NULL;
    }
    if (key != NULL)
        memcpy(copy, key, (size_t)size);
    Branch **first = &node->buckets[bucket(key, size)];
    *one = (Branch){.next = *first, .key = copy, .size = size, .node = made};
    *first = one;
    return made;
}

int
ends_here(Node *node, int32_t row)
{
    int32_t *rows = realloc(node->rows, (size_t)(node->count + 1) * sizeof(int32_t));
    if (rows == NULL)
        return 0;
    rows[node->count++] = row;
    node->rows = rows;
    return 1;
}

/* ------------------------------------------------------------------------- one pass over a body */

typedef struct {
    Place body, end;
    Limits limits;
    int32_t *cells;           /* start and end of each row of the event at hand */
    const Node *data;         /* the paths */
} Pass;

typedef struct { Place at; ptrdiff_t size; } Key;

static Place value(const Pass *pass, Place p, const Node *node, int depth);

static Place
space(Place p)
{
    while (*p == ' ')
        p++;
    return p;
}

/* Return a word with the highest bit of each byte set that ends or breaks a plain string: quotes,
 * backslashes, control characters and whatever is not ASCII. Bytes above the lowest such bit are
 * not to be trusted: subtractions borrow from them. */
static uint64_t
striking(uint64_t word)
{
    const uint64_t ones = ~UINT64_C(0) / 255, tops = ones * 0x80;
    uint64_t quote = word ^ (ones * '"'), back = word ^ (ones * '\\');
    uint64_t found = (quote - ones) & ~quote;
    found |= (back - ones) & ~back;
    found |= (word - ones * ' ') & ~word;
    return (found | word) & tops;
}

/* Return what stands behind a character of two to four bytes; NULL where it is not UTF-8. */
static Place
wide(Place p, Place end)
{
    int more = *p >= 0xf0 ? 3 : *p >= 0xe0 ? 2 : 1;
    if (*p < 0xc2 || *p > 0xf4 || end - p <= more)
        return NULL;
    unsigned char least = *p == 0xe0 ? 0xa0 : *p == 0xf0 ? 0x90 : 0x80;   /* no longer than needed */
    unsigned char most = *p == 0xed ? 0x9f : *p == 0xf4 ? 0x8f : 0xbf;    /* no halves; the last one */
    if (p[1] < least || p[1] > most)
        return NULL;
    for (int i = 2; i <= more; i++)
        if ((p[i] & 0xc0) != 0x80)
            return NULL;
    return p + more + 1;
}

/* Return the closing quote of a string, given what stands behind the opening one; or NULL. */
static Place
closing(Place p, Place end)
{
    while (p < end) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
        while (end - p >= 8) {
            uint64_t word, found;
            memcpy(&word, p, 8);
            if ((found = striking(word)) != 0) {
                p += __builtin_ctzll(found) >> 3;
                break;
            }
            p += 8;
        }
        if (p == end)
            return NULL;
#endif
        if (*p == '"')
            return p;
        if (*p < ' ' || *p == '\\')
            return NULL;
        p = *p < 0x80 ? p + 1 : wide(p, end);
        if (p == NULL)
            return NULL;
    }
    return NULL;
}

static Place
digits(Place p)
{
    if (*p < '0' || *p > '9')
        return NULL;
    while (*p >= '0' && *p <= '9')
        p++;
    return p;
}

static Place
number(Place p)
{
    if (*p == '-')
        p++;
    p = *p == '0' ? p + 1 : digits(p);
    if (p != NULL && *p == '.')
        p = digits(p + 1);
    if (p != NULL && (*p == 'e' || *p == 'E')) {
        p++;
        if (*p == '+' || *p == '-')
            p++;
        p = digits(p);
    }
    return p;
}

static Place
word(Place p, Place end, const char *text, ptrdiff_t size)
{
    return end - p >= size && memcmp(p, text, (size_t)size) == 0 ? p + size : NULL;
}

static void
put(const Pass *pass, int32_t row, Place start, Place end)
{
    pass->cells[2 * row] = (int32_t)(start - pass->body);
    pass->cells[2 * row + 1] = (int32_t)(end - pass->body);
}

/* Return the closing quote of a key that its object has not had, and note it; or NULL. */
static Place
new_key(const Pass *pass, Place p, Key *keys, int *count)
{
    Place end = *p == '"' ? closing(p + 1, pass->end) : NULL;
    if (end == NULL || *count == KEYS_MAX)
        return NULL;
    Key key = {p + 1, end - p - 1};
    for (int i = 0; i < *count; i++)
        if (keys[i].size == key.size && memcmp(keys[i].at, key.at, (size_t)key.size) == 0)
            return NULL;
    keys[(*count)++] = key;
    return end;
}

static Place
colon(Place p)
{
    p = space(p);
    return *p == ':' ? space(p + 1) : NULL;
}

/* Return where the next member begins, or NULL; what ends them all is `p` itself. */
static Place
object(const Pass *pass, Place p, const Node *node, int depth)
{
    Key keys[KEYS_MAX];
    int count = 0;
    p = space(p + 1);
    if (*p == '}')
        return p + 1;
    for (;;) {
        Place end = new_key(pass, p, keys, &count);
        if (end == NULL || (p = colon(end + 1)) == NULL)
            return NULL;
        const Key *key = &keys[count - 1];
        p = value(pass, p, child(node, (const char *)key->at, key->size), depth);
        if (p == NULL)
            return NULL;
        p = space(p);
        if (*p == '}')
            return p + 1;
        if (*p != ',')
            return NULL;
        p = space(p + 1);
    }
}

static Place
array(const Pass *pass, Place p, const Node *node, int depth)
{
    p = space(p + 1);
    if (*p == ']')
        return p + 1;
    for (ptrdiff_t i = 0;; i++) {
        p = value(pass, p, child(node, NULL, i), depth);
        if (p == NULL)
            return NULL;
        p = space(p);
        if (*p == ']')
            return p + 1;
        if (*p != ',')
            return NULL;
        p = space(p + 1);
    }
}

/* Return what stands behind a value, or NULL; note where it stands for the rows of its path. */
static Place
value(const Pass *pass, Place p, const Node *node, int depth)
{
    Place start = p;
    switch (*p) {
    case '{':
        return depth == DEPTH_MAX ? NULL : object(pass, p, node, depth + 1);
    case '[':
        return depth == DEPTH_MAX ? NULL : array(pass, p, node, depth + 1);
    case '"':
        p = closing(p + 1, pass->end);
        p = p == NULL ? NULL : p + 1;
        break;
    case 't':
        p = word(p, pass->end, "true", 4);
        break;
    case 'f':
        p = word(p, pass->end, "false", 5);
        break;
    case 'n':
        p = word(p, pass->end, "null", 4);
        break;
    default:
        p = number(p);
    }
    if (p != NULL && node != NULL)
        for (ptrdiff_t i = 0; i < node->count; i++)
            put(pass, node->rows[i], start, p);
    return p;
}

/* Return which of `KEYS` it is, or -1. */
static int
attribute(const Key *key)
{
    for (int i = 0; i < (int)(sizeof KEYS / sizeof *KEYS); i++)
        if ((size_t)key->size == KEYS[i].size && memcmp(key->at, KEYS[i].name, KEYS[i].size) == 0)
            return i;
    return -1;
}

static int
is_text(const Key *text, const char *wanted)
{
    size_t size = strlen(wanted);
    return (size_t)text->size == size && memcmp(text->at, wanted, size) == 0;
}

/* Return what stands behind an attribute that is a string, or NULL. */
static Place
named(const Pass *pass, Place p, int which, unsigned char *declared)
{
    Place end = closing(p + 1, pass->end);
    if (end == NULL)
        return NULL;
    Key text = {p + 1, end - p - 1};
    if (which == SPECVERSION)
        return is_text(&text, "1.0") ? end + 1 : NULL;
    if (which == DECLARED) {
        *declared = 1;
        return is_text(&text, "application/json") ? end + 1 : NULL;
    }
    if (text.size == 0 || text.size > pass->limits.attribute_bytes)
        return NULL;
    put(pass, which, text.at, end);
    return end + 1;
}

static Place
member(const Pass *pass, Place p, int which, unsigned char *declared)
{
    if (*p == '"' && which != DATA)
        return named(pass, p, which, declared);
    if (*p == 'n' && (REQUIRED >> which & 1) == 0)
        return word(p, pass->end, "null", 4);
    if (*p != '{' || which != DATA)
        return NULL;
    Place end = object(pass, p, pass->data, 1);
    if (end != NULL)
        put(pass, DATA, p, end);
    return end;
}

/* Return what stands behind an event, or NULL. */
static Place
event(const Pass *pass, Place p, unsigned char *declared)
{
    Key keys[KEYS_MAX];
    int count = 0;
    unsigned seen = 0;
    if (*p != '{')
        return NULL;
    do {
        p = space(p + 1);
        Place end = new_key(pass, p, keys, &count);
        int which = end == NULL ? -1 : attribute(&keys[count - 1]);
        if (which < 0 || (p = colon(end + 1)) == NULL)
            return NULL;
        seen |= 1u << which;
        if ((p = member(pass, p, which, declared)) == NULL)
            return NULL;
        p = space(p);
    } while (*p == ',');
    return *p == '}' && (seen & REQUIRED) == REQUIRED ? p + 1 : NULL;
}

/* ------------------------------------------------------------------------- all events */

/* Make room for one more event; whether there was memory. */
static int
widen(Found *found, ptrdiff_t rows)
{
    if (found->count < found->room)
        return 1;
    ptrdiff_t room = found->room ? 2 * found->room : 256;
    int32_t *cells = realloc(found->cells, (size_t)(room * rows * 2) * sizeof(int32_t));
    if (cells != NULL)
        found->cells = cells;
    unsigned char *declared = realloc(found->declared, (size_t)room);
    if (declared != NULL)
        found->declared = declared;
    if (cells == NULL || declared == NULL)
        return 0;
    found->room = room;
    return 1;
}

int
scan(const char *body, ptrdiff_t size, const Node *paths, ptrdiff_t rows, Limits limits,
     Found *found)
{
    Pass pass = {(Place)body, (Place)body + size, limits, NULL, paths};
    Place p = space(pass.body);
    if (*p != '[')
        return 0;
    do {
        p = space(p + 1);
        if (found->count == limits.events)
            return 0;
        if (!widen(found, rows))
            return -1;
        pass.cells = found->cells + found->count * rows * 2;
        memset(pass.cells, 0xff, (size_t)rows * 2 * sizeof(int32_t));     /* -1 everywhere */
        found->declared[found->count] = 0;
        Place start = p;
        p = event(&pass, p, &found->declared[found->count]);
        if (p == NULL || p - start > limits.event_bytes)
            return 0;
        put(&pass, (int32_t)rows - 1, start, p);
        found->count++;
        p = space(p);
    } while (*p == ',');
    return *p == ']' && space(p + 1) == pass.end;
}
