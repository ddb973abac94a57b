#include "side.h"

#include <string.h>

#define NOWHERE UINT32_MAX
#define MANY_ROWS 48 /* from so many on, one pass over all levels is cheaper than a place made for each */

void side_begin(Side *side, double sign)
{
    memset(side, 0, sizeof(*side));
    side->sign = sign;
    side->free = NOWHERE;
}

/* -- cells */

static size_t text_length(const Cell *cell)
{
    return (size_t)cell->price_length + cell->rest_length + 2;
}

static int stands_elsewhere(const Cell *cell)
{
    return text_length(cell) > INLINE_TEXT;
}

const char *cell_text(const Cell *cell)
{
    if (!stands_elsewhere(cell)) {
        return cell->text.here;
    }
    const char *text;
    memcpy(&text, cell->text.here, sizeof(text));
    return text;
}

static void cell_empty(Cell *cell)
{
    if (stands_elsewhere(cell)) {
        PyMem_Free((char *)cell_text(cell));
    }
    cell->price_length = cell->rest_length = 0;
}

/* Put a row into a cell that is empty; return 0, or -1 with an exception set. */
static int cell_write(Cell *cell, const Row *row)
{
    size_t length = (size_t)row->price_length + row->rest_length + 2;
    char *text = cell->text.here;
    if (length > INLINE_TEXT) {
        if ((text = PyMem_Malloc(length)) == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        memcpy(cell->text.here, &text, sizeof(text));
    }
    cell->price_length = row->price_length;
    cell->size_length = row->size_length;
    cell->rest_length = row->rest_length;
    *text++ = ':';
    memcpy(text, row->price, row->price_length);
    text += row->price_length;
    *text++ = ':';
    memcpy(text, row->rest, row->rest_length);
    return 0;
}

static uint32_t cell_take(Side *side)
{
    uint32_t place = side->free;
    if (place == NOWHERE) {
        place = side->used++;
    } else {
        side->free = side->cells[place].text.next;
    }
    side->cells[place].price_length = side->cells[place].rest_length = 0;
    return place;
}

static void cell_leave(Side *side, uint32_t place)
{
    Cell *cell = &side->cells[place];
    cell_empty(cell);
    cell->text.next = side->free;
    side->free = place;
}

/* -- room */

void side_clear(Side *side)
{
    for (uint32_t place = 0; place < side->used; place++) {
        cell_empty(&side->cells[place]);
    }
    PyMem_Free(side->keys);
    PyMem_Free(side->places);
    PyMem_Free(side->cells);
    side_begin(side, side->sign);
}

size_t side_size(const Side *side)
{
    size_t size = side->room * (sizeof(double) + sizeof(uint32_t) + sizeof(Cell));
    for (uint32_t place = 0; place < side->used; place++) {
        const Cell *cell = &side->cells[place];
        size += stands_elsewhere(cell) ? text_length(cell) : 0;
    }
    return size;
}

static void *grown(void *old, size_t room, size_t size)
{
    void *made = room <= PY_SSIZE_T_MAX / size ? PyMem_Realloc(old, room * size) : NULL;
    if (made == NULL) {
        PyErr_NoMemory();
    }
    return made;
}

/* Have room for `more` further levels, which are not too many; return 0, or -1 with an exception set, and nothing
   changed. */
static int make_room(Side *side, size_t more)
{
    if (more <= side->room - side->count) {
        return 0;
    }
    size_t room = side->count + more;
    room += room / 8 + 8;
    if (room > MOST_LEVELS) {
        room = MOST_LEVELS;
    }
    // Each is put down as soon as it is had: with one that is too large nothing is wrong.
    double *keys = grown(side->keys, room, sizeof(double));
    if (keys == NULL) {
        return -1;
    }
    side->keys = keys;
    uint32_t *places = grown(side->places, room, sizeof(uint32_t));
    if (places == NULL) {
        return -1;
    }
    side->places = places;
    Cell *cells = grown(side->cells, room, sizeof(Cell));
    if (cells == NULL) {
        return -1;
    }
    side->cells = cells;
    side->room = (uint32_t)room;
    return 0;
}

/* -- one row after the other */

/* Return the place of the first key that is not below `key`. */
static uint32_t find(const Side *side, double key)
{
    if (side->count == 0) {
        return 0;
    }
    const double *from = side->keys;
    uint32_t length = side->count;
    while (length > 1) { // without a branch that depends on the keys: it would be guessed wrong half the time
        uint32_t half = length / 2;
        from += from[half - 1] < key ? half : 0;
        length -= half;
    }
    return (uint32_t)(from - side->keys) + (*from < key);
}

static void touched(Side *side, uint32_t rank)
{
    if (rank < side->fresh) {
        side->fresh = rank;
    }
}

static int insert(Side *side, uint32_t at, double key, const Row *row)
{
    if (side->count == MOST_LEVELS) {
        PyErr_Format(PyExc_ValueError, "a side has more than %d levels", MOST_LEVELS);
        return -1;
    }
    if (make_room(side, 1) < 0) {
        return -1;
    }
    uint32_t place = cell_take(side), behind = side->count - at;
    if (cell_write(&side->cells[place], row) < 0) {
        cell_leave(side, place);
        return -1;
    }
    memmove(side->keys + at + 1, side->keys + at, behind * sizeof(double));
    memmove(side->places + at + 1, side->places + at, behind * sizeof(uint32_t));
    side->keys[at] = key;
    side->places[at] = place;
    side->count++;
    touched(side, behind);
    return 0;
}

static void delete (Side *side, uint32_t at)
{
    uint32_t behind = side->count - at - 1;
    cell_leave(side, side->places[at]);
    memmove(side->keys + at, side->keys + at + 1, behind * sizeof(double));
    memmove(side->places + at, side->places + at + 1, behind * sizeof(uint32_t));
    side->count--;
    touched(side, behind);
}

/* Return 0 if the level in `cell` is the one that `row` names, or -1 with an exception set. */
static int is_named(const Cell *cell, const Row *row, const Rules *rules)
{
    const char *known = cell_text(cell) + 1;
    if (cell->price_length == row->price_length && memcmp(known, row->price, row->price_length) == 0) {
        return 0;
    }
    return price_same(known, cell->price_length, row->price, row->price_length, rules);
}

static int rewrite(Side *side, uint32_t place, const Row *row)
{
    cell_empty(&side->cells[place]);
    return cell_write(&side->cells[place], row);
}

static int apply_one(Side *side, const Row *row, const Rules *rules)
{
    double key = row->number * side->sign;
    uint32_t at = find(side, key);
    if (at == side->count || side->keys[at] != key) {
        return row->rest_length == 0 ? 0 : insert(side, at, key, row);
    }
    if (is_named(&side->cells[side->places[at]], row, rules) < 0) {
        return -1;
    }
    if (row->rest_length == 0) {
        delete (side, at);
        return 0;
    }
    touched(side, side->count - at - 1);
    return rewrite(side, side->places[at], row);
}

/* -- many rows in one pass */

typedef struct {
    double key;
    size_t turn;
} Turn;

static int by_key(const void *left, const void *right)
{
    const Turn *one = left, *other = right;
    if (one->key != other->key) {
        return one->key < other->key ? -1 : 1;
    }
    return one->turn < other->turn ? -1 : 1;
}

/* Bring rows in the order of their keys, those of one key in turn. The exchange sends them in order already. */
static Turn *in_order(const Side *side, const Rows *rows)
{
    Turn *turns = grown(NULL, rows->count, sizeof(Turn));
    if (turns == NULL) {
        return NULL;
    }
    size_t last = rows->count - 1, rising = 0, falling = 0;
    for (size_t i = 0; i <= last; i++) {
        turns[i] = (Turn){rows->at[i].number * side->sign, i};
        rising += i > 0 && turns[i - 1].key < turns[i].key;
        falling += i > 0 && turns[i - 1].key > turns[i].key;
    }
    if (falling == last) {
        for (size_t i = 0; i <= last / 2; i++) {
            Turn turn = turns[i];
            turns[i] = turns[last - i];
            turns[last - i] = turn;
        }
    } else if (rising != last) {
        qsort(turns, rows->count, sizeof(Turn), by_key);
    }
    return turns;
}

/* Take what one row says of the level at `*place`, or of none. */
static int take_turn(Side *side, uint32_t *place, const Row *row, const Rules *rules)
{
    if (*place != NOWHERE && is_named(&side->cells[*place], row, rules) < 0) {
        return -1;
    }
    if (row->rest_length == 0) {
        if (*place != NOWHERE) {
            cell_leave(side, *place);
            *place = NOWHERE;
        }
        return 0;
    }
    if (*place != NOWHERE) {
        return rewrite(side, *place, row);
    }
    *place = cell_take(side);
    return cell_write(&side->cells[*place], row);
}

static void append(Side *side, double key, uint32_t place)
{
    side->keys[side->count] = key;
    side->places[side->count++] = place;
}

static int merge(Side *side, const double *keys, const uint32_t *places, const Turn *turns, const Rows *rows,
                 const Rules *rules)
{
    uint32_t old = 0, count = side->count;
    size_t turn = 0;
    side->count = 0;
    while (turn < rows->count) {
        double key = turns[turn].key;
        for (; old < count && keys[old] < key; old++) {
            append(side, keys[old], places[old]);
        }
        uint32_t place = old < count && keys[old] == key ? places[old++] : NOWHERE;
        for (; turn < rows->count && turns[turn].key == key; turn++) {
            if (take_turn(side, &place, &rows->at[turns[turn].turn], rules) < 0) {
                return -1;
            }
        }
        if (place != NOWHERE) {
            append(side, key, place);
        }
    }
    for (; old < count; old++) {
        append(side, keys[old], places[old]);
    }
    return 0;
}

static int apply_many(Side *side, const Rows *rows, const Rules *rules)
{
    if (make_room(side, rows->count) < 0) {
        return -1;
    }
    Turn *turns = in_order(side, rows);
    double *keys = turns == NULL ? NULL : grown(NULL, side->room, sizeof(double));
    uint32_t *places = keys == NULL ? NULL : grown(NULL, side->room, sizeof(uint32_t));
    int done = -1;
    if (places != NULL) {
        memcpy(keys, side->keys, side->count * sizeof(double));
        memcpy(places, side->places, side->count * sizeof(uint32_t));
        side->fresh = 0;
        done = merge(side, keys, places, turns, rows, rules);
    }
    PyMem_Free(turns);
    PyMem_Free(keys);
    PyMem_Free(places);
    return done;
}

int side_apply(Side *side, const Rows *rows, const Rules *rules)
{
    int done = 0;
    // In one pass rows do not come in turn: whether there are too many levels in between would not be seen.
    if (rows->count >= MANY_ROWS && rows->count <= MOST_LEVELS - side->count) {
        done = apply_many(side, rows, rules);
    } else {
        for (size_t i = 0; i < rows->count && done == 0; i++) {
            done = apply_one(side, &rows->at[i], rules);
        }
    }
    if (done < 0) {
        side_clear(side); // whatever was half done
    }
    return done;
}

const Cell *side_level(const Side *side, uint32_t rank)
{
    return &side->cells[side->places[side->count - 1 - rank]];
}
