#include "inflate.h"

#include <stdint.h>
#include <string.h>

#define LONGEST_CODE 15
#define LOOKED_UP 9 /* at most: codes of up to so many bits are found at once */
#define LITERALS 288
#define DISTANCES 30
#define END_OF_BLOCK 256

/* Codes of one kind. `quick`: by the next `ahead` bits, a symbol and the length of its code, 0 where that is longer or
   there is none. `symbols` are in the order of their codes, of which there are `counts` by length. */
typedef struct {
    unsigned ahead;
    uint16_t quick[1 << LOOKED_UP];
    uint16_t counts[LONGEST_CODE + 1];
    uint16_t symbols[LITERALS];
} Codes;

#define ENTRY(symbol, length) ((uint16_t)((symbol) << 4 | (length)))

typedef struct {
    const unsigned char *at, *end;
    uint64_t bits; /* those that were taken from there, the next one lowest */
    unsigned held;
    unsigned char *text;
    size_t length, room;
} Stream;

/* -- bits */

/* Hold as many bits as there may be. Behind the end there are zeros, which `take` does not give out. */
static inline void fill(Stream *stream)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (stream->end - stream->at >= 8) {
        uint64_t word;
        memcpy(&word, stream->at, 8);
        stream->bits |= word << stream->held;
        stream->at += (63 - stream->held) >> 3;
        stream->held |= 56;
        return;
    }
#endif
    while (stream->held <= 56 && stream->at < stream->end) {
        stream->bits |= (uint64_t)*stream->at++ << stream->held;
        stream->held += 8;
    }
}

/* Take `count` bits, at most 16, of those that are held; return whether there were so many. */
static inline int take(Stream *stream, unsigned count, unsigned *value)
{
    if (stream->held < count) {
        return 0;
    }
    *value = (unsigned)(stream->bits & (((uint64_t)1 << count) - 1));
    stream->bits >>= count;
    stream->held -= count;
    return 1;
}

static int next(Stream *stream, unsigned count, unsigned *value)
{
    fill(stream);
    return take(stream, count, value);
}

/* -- codes */

/* Put every code that `ahead` bits can hold where those bits find it. They come with the first bit of a code lowest, so
   one counts from the top: the next code of the same length has the highest 0 set, and all above cleared. */
static void make_quick(Codes *codes)
{
    unsigned bits = 0, place = 0, size = 1u << codes->ahead;
    memset(codes->quick, 0, size * sizeof(codes->quick[0]));
    for (unsigned length = 1; length <= codes->ahead; length++) {
        for (unsigned i = 0; i < codes->counts[length]; i++) {
            uint16_t entry = ENTRY(codes->symbols[place++], length);
            for (unsigned at = bits; at < size; at += 1u << length) {
                codes->quick[at] = entry;
            }
            unsigned top = 1u << (length - 1);
            while (bits & top) {
                bits ^= top;
                top >>= 1;
            }
            bits |= top;
        }
    }
}

/* Make codes of their lengths; return whether they are right, as zlib sees it: all that are possible are used, or just
   one, of one bit, or none at all, if so few may be used: at least `fewest`. */
static int make_codes(Codes *codes, const unsigned char *lengths, unsigned count, unsigned fewest, unsigned ahead)
{
    unsigned places[LONGEST_CODE + 2] = {0};
    memset(codes->counts, 0, sizeof(codes->counts));
    for (unsigned symbol = 0; symbol < count; symbol++) {
        codes->counts[lengths[symbol]]++;
    }
    unsigned used = count - codes->counts[0];
    codes->counts[0] = 0;
    long left = 1;
    for (unsigned length = 1; length <= LONGEST_CODE; length++) {
        left = left * 2 - codes->counts[length];
        if (left < 0) {
            return 0;
        }
        places[length + 1] = places[length] + codes->counts[length];
    }
    if (left > 0 && (used < fewest || used != codes->counts[1] || used > 1)) {
        return 0;
    }
    for (unsigned symbol = 0; symbol < count; symbol++) {
        if (lengths[symbol] != 0) {
            codes->symbols[places[lengths[symbol]]++] = (uint16_t)symbol;
        }
    }
    codes->ahead = ahead;
    make_quick(codes);
    return 1;
}

/* Take a symbol whose code is not found at once. */
static inline int take_long(Stream *stream, const Codes *codes, unsigned *symbol)
{
    unsigned code = 0, first = 0, place = 0;
    for (unsigned length = 1; length <= LONGEST_CODE && length <= stream->held; length++) {
        code |= (unsigned)(stream->bits >> (length - 1)) & 1;
        unsigned count = codes->counts[length];
        if (code < first + count) {
            *symbol = codes->symbols[place + code - first];
            return take(stream, length, &code);
        }
        place += count;
        first = (first + count) << 1;
        code <<= 1;
    }
    return 0;
}

static inline int take_symbol(Stream *stream, const Codes *codes, unsigned *symbol)
{
    unsigned entry = codes->quick[stream->bits & (((uint64_t)1 << codes->ahead) - 1)], length = entry & 15;
    if (length == 0 || length > stream->held) {
        return take_long(stream, codes, symbol);
    }
    stream->bits >>= length;
    stream->held -= length;
    *symbol = entry >> 4;
    return 1;
}

/* -- blocks. Each returns whether it is right. */

static inline int repeat(Stream *stream, size_t length, size_t distance)
{
    if (distance > stream->length || length > stream->room - stream->length) {
        return 0;
    }
    unsigned char *to = stream->text + stream->length;
    const unsigned char *from = to - distance;
    stream->length += length;
    if (distance >= 8 && stream->room - stream->length >= 8) {
        const unsigned char *end = to + length;
        do {
            memcpy(to, from, 8);
            to += 8;
            from += 8;
        } while (to < end);
    } else {
        for (size_t i = 0; i < length; i++) {
            to[i] = from[i]; // what is written is read again
        }
    }
    return 1;
}

static int coded_block(Stream *outside, const Codes *literals, const Codes *distances)
{
    static const uint16_t LENGTHS[] = {3,  4,  5,  6,  7,  8,  9,  10, 11,  13,  15,  17,  19,  23, 27,
                                       31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258};
    static const uint8_t LENGTH_BITS[] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};
    static const uint16_t FAR[] = {1,   2,   3,   4,   5,   7,    9,    13,   17,   25,   33,   49,   65,    97,    129,
                                   193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577};
    static const uint8_t FAR_BITS[] = {0, 0, 0, 0, 1, 1, 2, 2,  3,  3,  4,  4,  5,  5,  6,
                                       6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13};
    Stream here = *outside, *stream = &here; // of which nobody else knows, so that it stays in registers
    for (;;) {
        unsigned symbol, far, more, farther;
        fill(stream); // enough for all that a repetition takes: 15 + 5 + 15 + 13 bits
        if (!take_symbol(stream, literals, &symbol)) {
            return 0;
        }
        if (symbol < END_OF_BLOCK) {
            if (stream->length == stream->room) {
                return 0;
            }
            stream->text[stream->length++] = (unsigned char)symbol;
            continue;
        }
        if (symbol == END_OF_BLOCK) {
            *outside = here;
            return 1;
        }
        symbol -= END_OF_BLOCK + 1;
        if (symbol >= sizeof(LENGTH_BITS) || !take(stream, LENGTH_BITS[symbol], &more) ||
            !take_symbol(stream, distances, &far) || far >= DISTANCES || !take(stream, FAR_BITS[far], &farther) ||
            !repeat(stream, LENGTHS[symbol] + more, (size_t)FAR[far] + farther)) {
            return 0;
        }
    }
}

static int stored_block(Stream *stream)
{
    unsigned rest, length, mirrored;
    if (!take(stream, stream->held % 8, &rest) || !next(stream, 16, &length) || !next(stream, 16, &mirrored) ||
        (length ^ mirrored) != 0xFFFF) {
        return 0;
    }
    for (; length > 0; length--) {
        unsigned byte;
        if (!next(stream, 8, &byte) || stream->length == stream->room) {
            return 0;
        }
        stream->text[stream->length++] = (unsigned char)byte;
    }
    return 1;
}

static int fixed_block(Stream *stream)
{
    static Codes literals, distances;
    static int ready;
    if (!ready) {
        unsigned char lengths[LITERALS];
        memset(lengths, 8, 144);
        memset(lengths + 144, 9, 112);
        memset(lengths + 256, 7, 24);
        memset(lengths + 280, 8, 8);
        make_codes(&literals, lengths, LITERALS, 2, LOOKED_UP);
        memset(lengths, 5, 32); // of which the last two stand for nothing
        make_codes(&distances, lengths, 32, 2, 5);
        ready = 1;
    }
    return coded_block(stream, &literals, &distances);
}

/* Read the lengths of the codes of a block, which are coded themselves. */
static int read_lengths(Stream *stream, const Codes *codes, unsigned char *lengths, unsigned count)
{
    static const unsigned BITS[] = {2, 3, 7}, LEAST[] = {3, 3, 11};
    unsigned at = 0;
    while (at < count) {
        unsigned symbol, times;
        fill(stream);
        if (!take_symbol(stream, codes, &symbol)) {
            return 0;
        }
        if (symbol < 16) {
            lengths[at++] = (unsigned char)symbol;
            continue;
        }
        if (!take(stream, BITS[symbol - 16], &times) || (times += LEAST[symbol - 16]) > count - at ||
            (symbol == 16 && at == 0)) {
            return 0;
        }
        memset(lengths + at, symbol == 16 ? lengths[at - 1] : 0, times);
        at += times;
    }
    return 1;
}

static int dynamic_block(Stream *stream)
{
    static const uint8_t ORDER[] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
    unsigned literals, distances, lengths, length;
    unsigned char all[LITERALS + 32] = {0};
    Codes codes, far;
    if (!next(stream, 5, &literals) || !next(stream, 5, &distances) || !next(stream, 4, &lengths)) {
        return 0;
    }
    literals += 257;
    distances += 1;
    if (literals > 286 || distances > DISTANCES) {
        return 0;
    }
    for (unsigned i = 0; i < lengths + 4; i++) {
        if (!next(stream, 3, &length)) {
            return 0;
        }
        all[ORDER[i]] = (unsigned char)length;
    }
    if (!make_codes(&codes, all, sizeof(ORDER), 2, 7)) {
        return 0;
    }
    memset(all, 0, sizeof(all));
    return read_lengths(stream, &codes, all, literals + distances) && all[END_OF_BLOCK] != 0 &&
           make_codes(&codes, all, literals, 1, LOOKED_UP) && make_codes(&far, all + literals, distances, 0, 6) &&
           coded_block(stream, &codes, &far);
}

size_t inflate_whole(const unsigned char *data, size_t length, unsigned char *text, size_t room)
{
    Stream stream = {data, data + length, 0, 0, text, 0, room};
    unsigned last = 0, kind;
    while (!last) {
        if (!next(&stream, 1, &last) || !next(&stream, 2, &kind)) {
            return NOT_INFLATED;
        }
        int right = kind == 0   ? stored_block(&stream)
                    : kind == 1 ? fixed_block(&stream)
                    : kind == 2 ? dynamic_block(&stream)
                                : 0;
        if (!right) {
            return NOT_INFLATED;
        }
    }
    return stream.held < 8 && stream.at == stream.end ? stream.length : NOT_INFLATED;
}
