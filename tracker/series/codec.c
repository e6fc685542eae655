/* Chunks of points, packed and unpacked. */
#include "tracker/series/codec.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/bytes.h"
#include "tracker/map/sum.h"
#include "tracker/series/squeeze.h"

enum { CODEC_RAW, CODEC_DELTA, CODEC_DELTA_ZSTD };

enum {
    AT_CODEC = 0,
    AT_COUNT = 2,
    AT_MIN_AT = 4,
    AT_MAX_AT = 6,
    AT_FIRST = 8,
    AT_STEP_MIN = 16,
    AT_STEP_MAX = 24,
    AT_MIN = 32,
    AT_MAX = 40,
    AT_SUM = 48,
    POINT_BYTES = 24,
    LENGTHS_BYTES = 4,
    PAYLOAD_MAX = CHUNK_BYTES_MAX - CHUNK_HEADER,
    /* What one more point can cost: two zero runs to close (1 + 2 bytes each), two numbers of 10
     * bytes, a value of 2 + 5 + 6 + 64 bits. */
    POINT_WORST = 2 * 3 + 2 * 10 + 10,
};

#define VARINT_MAX 10

/* The place of the sum itself is left out. */
static uint32_t chunk_sum(const uint8_t *chunk, size_t len) {
    uint64_t h = sum_add(sum_begin(len), chunk, AT_SUM);
    return sum_end(sum_add(h, chunk + CHUNK_HEADER, len - CHUNK_HEADER));
}

/* ---- integers: second differences ---- */

struct int_writer {
    size_t len;
    uint64_t last, last_delta, zeros;
    uint8_t out[PAYLOAD_MAX];
};

static void int_start(struct int_writer *w) {
    w->len = 0;
    w->last = w->last_delta = w->zeros = 0;
}

static size_t put_varint(uint8_t *out, uint64_t v) {
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        out[n++] = (uint8_t)(v | 0x80);
    out[n++] = (uint8_t)v;
    return n;
}

static void close_zeros(struct int_writer *w) {
    if (w->zeros == 0)
        return;
    w->out[w->len++] = 0;
    w->len += put_varint(w->out + w->len, w->zeros - 1);
    w->zeros = 0;
}

static void add_int(struct int_writer *w, uint64_t v) {
    uint64_t delta = v - w->last, second = delta - w->last_delta;
    w->last = v;
    w->last_delta = delta;
    if (second == 0) {
        w->zeros++;
        return;
    }
    close_zeros(w);
    uint64_t zigzag = second << 1 ^ (second >> 63 != 0 ? UINT64_MAX : 0);
    w->len += put_varint(w->out + w->len, zigzag);
}

static bool get_varint(const uint8_t **p, const uint8_t *end, uint64_t *out) {
    uint64_t v = 0;
    for (unsigned i = 0; i < VARINT_MAX && *p < end; i++) {
        uint8_t b = *(*p)++;
        v |= (uint64_t)(b & 0x7f) << (7 * i);
        if (b < 0x80) {
            *out = v;
            return true;
        }
    }
    return false;
}

static bool read_ints(const uint8_t *p, size_t len, size_t count, int64_t *out) {
    const uint8_t *end = p + len;
    uint64_t last = 0, delta = 0;
    for (size_t i = 0; i < count;) {
        uint64_t zigzag, run = 1;
        if (!get_varint(&p, end, &zigzag))
            return false;
        if (zigzag == 0 && !get_varint(&p, end, &run))
            return false;
        if (zigzag == 0 && run++ >= count - i)
            return false;
        delta += zigzag >> 1 ^ ((zigzag & 1) != 0 ? UINT64_MAX : 0);
        for (; run > 0; run--) {
            last += delta;
            out[i++] = (int64_t)last;
        }
    }
    return p == end;
}

/* ---- values: exclusive or, by bits ---- */

/* Most significant bit first, 64 of them at a time. */
struct bit_writer {
    size_t len;    /* whole bytes written */
    uint64_t word; /* the next ones, from the top */
    unsigned fill; /* bits in it, below 64 */
    uint64_t last;
    unsigned lead, width; /* of the window in use; width 0: none yet */
    uint8_t out[PAYLOAD_MAX + 8];
};

static void bit_start(struct bit_writer *w) {
    w->len = 0;
    w->word = w->last = 0;
    w->fill = w->lead = w->width = 0;
}

/* 1 to 64 bits; v has no others. */
static void add_bits(struct bit_writer *w, uint64_t v, unsigned n) {
    unsigned room = 64 - w->fill;
    if (n < room) {
        w->word |= v << (room - n);
        w->fill += n;
        return;
    }
    bytes_put_be64(w->out + w->len, w->word | v >> (n - room));
    w->len += 8;
    w->fill = n - room;
    w->word = w->fill > 0 ? v << (64 - w->fill) : 0;
}

static size_t close_bits(struct bit_writer *w) {
    bytes_put_be64(w->out + w->len, w->word);
    return w->len + (w->fill + 7) / 8;
}

static void add_value(struct bit_writer *w, uint64_t v) {
    uint64_t x = v ^ w->last;
    w->last = v;
    if (x == 0) {
        add_bits(w, 0, 1);
        return;
    }
    unsigned lead = (unsigned)__builtin_clzll(x), trail = (unsigned)__builtin_ctzll(x);
    if (lead > 31)
        lead = 31;
    unsigned width = 64 - lead - trail, window_trail = 64 - w->lead - w->width;
    /* The old window costs its unused bits, a new one 11 to describe it. */
    if (w->width != 0 && lead >= w->lead && trail >= window_trail && w->width < width + 11) {
        add_bits(w, 2, 2);
        add_bits(w, x >> window_trail, w->width);
        return;
    }
    add_bits(w, 3, 2);
    add_bits(w, lead, 5);
    add_bits(w, width - 1, 6);
    add_bits(w, x >> trail, width);
    w->lead = lead;
    w->width = width;
}

struct bit_reader {
    const uint8_t *in;
    size_t bits, at;
};

/* The 72 bits from byte `at` on: 64 and 8. Past the end there are zeros. */
static void load_end(const struct bit_reader *r, size_t at, uint64_t *word, uint8_t *next) {
    uint8_t end[16] = {0};
    memcpy(end, r->in + at, (r->bits >> 3) - at);
    *word = bytes_get_be64(end);
    *next = end[8];
}

/* 1 to 64 bits. */
static inline bool take_bits(struct bit_reader *r, unsigned n, uint64_t *out) {
    size_t at = r->at >> 3;
    unsigned skip = (unsigned)(r->at & 7);
    uint64_t word;
    uint8_t next;
    if (n > r->bits - r->at)
        return false;
    if ((r->bits >> 3) - at < 9) {
        load_end(r, at, &word, &next);
    } else {
        word = bytes_get_be64(r->in + at);
        next = r->in[at + 8];
    }
    *out = (word << skip | (uint64_t)next >> (8 - skip)) >> (64 - n);
    r->at += n;
    return true;
}

static bool read_values(const uint8_t *in, size_t len, size_t count, uint64_t *out) {
    struct bit_reader r = {in, len * 8, 0};
    uint64_t last = 0, bit, x, lead = 0, width = 0;
    for (size_t i = 0; i < count; i++) {
        if (!take_bits(&r, 1, &bit))
            return false;
        if (bit != 0) {
            if (!take_bits(&r, 1, &bit))
                return false;
            if (bit != 0) {
                if (!take_bits(&r, 5, &lead) || !take_bits(&r, 6, &width))
                    return false;
                width++;
            }
            if (width == 0 || lead + width > 64 || !take_bits(&r, (unsigned)width, &x))
                return false;
            last ^= x << (64 - lead - width);
        }
        out[i] = last;
    }
    return r.bits - r.at < 8;
}

/* ---- packing ---- */

static double as_double(uint64_t bits) {
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static void fill_header(uint8_t *out, const struct points *p, size_t n, uint64_t first, int codec) {
    int64_t step_min = p->step[0], step_max = p->step[0];
    size_t min_at = CHUNK_NONE, max_at = CHUNK_NONE;
    double min = (double)NAN, max = (double)NAN;
    for (size_t i = 0; i < n; i++) {
        double v = as_double(p->bits[i]);
        if (p->step[i] < step_min)
            step_min = p->step[i];
        if (p->step[i] > step_max)
            step_max = p->step[i];
        if (isnan(v))
            continue;
        if (min_at == CHUNK_NONE || v < min) {
            min = v;
            min_at = i;
        }
        if (max_at == CHUNK_NONE || v > max) {
            max = v;
            max_at = i;
        }
    }
    memset(out, 0, CHUNK_HEADER);
    out[AT_CODEC] = (uint8_t)codec;
    bytes_put_u16(out + AT_COUNT, (uint16_t)n);
    bytes_put_u16(out + AT_MIN_AT, (uint16_t)min_at);
    bytes_put_u16(out + AT_MAX_AT, (uint16_t)max_at);
    bytes_put_u64(out + AT_FIRST, first);
    bytes_put_u64(out + AT_STEP_MIN, (uint64_t)step_min);
    bytes_put_u64(out + AT_STEP_MAX, (uint64_t)step_max);
    bytes_put_f64(out + AT_MIN, min);
    bytes_put_f64(out + AT_MAX, max);
}

static size_t raw_payload(const struct points *p, size_t n, uint8_t *out) {
    for (size_t i = 0; i < n; i++) {
        bytes_put_u64(out + 8 * i, (uint64_t)p->step[i]);
        bytes_put_u64(out + 8 * (n + i), (uint64_t)p->time_ns[i]);
        bytes_put_u64(out + 8 * (2 * n + i), p->bits[i]);
    }
    return n * POINT_BYTES;
}

/* Stops while the worst point would still fit: what is taken does not depend on what follows. */
static size_t delta_payload(const struct points *p, size_t n, uint8_t *out, size_t *len) {
    struct int_writer s, t;
    struct bit_writer v;
    int_start(&s);
    int_start(&t);
    bit_start(&v);
    size_t i = 0;
    while (i < n && i < CHUNK_POINTS_MAX &&
           LENGTHS_BYTES + s.len + t.len + v.len + v.fill / 8 + 1 + POINT_WORST <= PAYLOAD_MAX) {
        add_int(&s, (uint64_t)p->step[i]);
        add_int(&t, (uint64_t)p->time_ns[i]);
        add_value(&v, p->bits[i]);
        i++;
    }
    close_zeros(&s);
    close_zeros(&t);
    size_t value_bytes = close_bits(&v);
    assert(LENGTHS_BYTES + s.len + t.len + value_bytes <= PAYLOAD_MAX);
    bytes_put_u16(out, (uint16_t)s.len);
    bytes_put_u16(out + 2, (uint16_t)t.len);
    uint8_t *at = out + LENGTHS_BYTES;
    memcpy(at, s.out, s.len);
    memcpy(at + s.len, t.out, t.len);
    memcpy(at + s.len + t.len, v.out, value_bytes);
    *len = LENGTHS_BYTES + s.len + t.len + value_bytes;
    return i;
}

size_t codec_encode(const struct points *p, uint64_t first, struct chunk *out) {
    size_t n = p->count;
    assert(n > 0);
    size_t raw_takes = n < PAYLOAD_MAX / POINT_BYTES ? n : PAYLOAD_MAX / POINT_BYTES;
    size_t payload;
    int codec = CODEC_DELTA;
    size_t taken = delta_payload(p, n, out->bytes + CHUNK_HEADER, &payload);
    if (taken < raw_takes || (taken == raw_takes && payload > raw_takes * POINT_BYTES)) {
        codec = CODEC_RAW;
        taken = raw_takes;
        payload = raw_payload(p, raw_takes, out->bytes + CHUNK_HEADER);
    }
    fill_header(out->bytes, p, taken, first, codec);
    out->len = CHUNK_HEADER + payload;
    bytes_put_u32(out->bytes + AT_SUM, chunk_sum(out->bytes, out->len));
    return taken;
}

void codec_seal(struct chunk *chunk) {
    uint8_t packed[PAYLOAD_MAX], *c = chunk->bytes;
    size_t payload = chunk->len - CHUNK_HEADER;
    if (c[AT_CODEC] != CODEC_DELTA || chunk->len <= CHUNK_SHARED_MAX)
        return;
    size_t n = squeeze_pack(c + CHUNK_HEADER, payload, packed, CHUNK_SHARED_MAX - CHUNK_HEADER);
    if (n == 0)
        return;
    memcpy(c + CHUNK_HEADER, packed, n);
    c[AT_CODEC] = CODEC_DELTA_ZSTD;
    chunk->len = CHUNK_HEADER + n;
    bytes_put_u32(c + AT_SUM, chunk_sum(c, chunk->len));
}

/* ---- unpacking ---- */

static enum status damaged(struct err *err) {
    return err_set(err, STATUS_CORRUPT, "a chunk of metric points is damaged; restore a backup");
}

enum status codec_info(struct kv_bytes chunk, struct chunk_info *out, struct err *err) {
    const uint8_t *c = chunk.data;
    if (c == NULL || chunk.len < CHUNK_HEADER || chunk.len > CHUNK_BYTES_MAX)
        return damaged(err);
    out->count = bytes_get_u16(c + AT_COUNT);
    out->min_at = bytes_get_u16(c + AT_MIN_AT);
    out->max_at = bytes_get_u16(c + AT_MAX_AT);
    out->first = bytes_get_u64(c + AT_FIRST);
    out->step_min = (int64_t)bytes_get_u64(c + AT_STEP_MIN);
    out->step_max = (int64_t)bytes_get_u64(c + AT_STEP_MAX);
    out->min = bytes_get_f64(c + AT_MIN);
    out->max = bytes_get_f64(c + AT_MAX);
    bool none = out->min_at == CHUNK_NONE && out->max_at == CHUNK_NONE;
    if (out->count == 0 || out->count > CHUNK_POINTS_MAX ||
        (!none && (out->min_at >= out->count || out->max_at >= out->count)))
        return damaged(err);
    return STATUS_OK;
}

static bool decode_raw(const uint8_t *p, size_t len, size_t n, struct points *out) {
    if (len != n * POINT_BYTES)
        return false;
    for (size_t i = 0; i < n; i++) {
        out->step[i] = (int64_t)bytes_get_u64(p + 8 * i);
        out->time_ns[i] = (int64_t)bytes_get_u64(p + 8 * (n + i));
        out->bits[i] = bytes_get_u64(p + 8 * (2 * n + i));
    }
    return true;
}

static bool decode_delta(const uint8_t *p, size_t len, size_t n, struct points *out) {
    if (len < LENGTHS_BYTES)
        return false;
    size_t steps = bytes_get_u16(p), times = bytes_get_u16(p + 2), rest = len - LENGTHS_BYTES;
    if (steps > rest || times > rest - steps)
        return false;
    p += LENGTHS_BYTES;
    return read_ints(p, steps, n, out->step) && read_ints(p + steps, times, n, out->time_ns) &&
           read_values(p + steps + times, rest - steps - times, n, out->bits);
}

enum status codec_decode(struct kv_bytes chunk, struct chunk_info *info, struct points *out,
                         struct err *err) {
    uint8_t unpacked[PAYLOAD_MAX];
    enum status st = codec_info(chunk, info, err);
    if (st != STATUS_OK)
        return st;
    const uint8_t *c = chunk.data, *payload = c + CHUNK_HEADER;
    size_t len = chunk.len - CHUNK_HEADER;
    if (bytes_get_u32(c + AT_SUM) != chunk_sum(c, chunk.len))
        return damaged(err);
    int codec = c[AT_CODEC];
    if (codec == CODEC_DELTA_ZSTD) {
        len = squeeze_unpack(payload, len, unpacked, sizeof unpacked);
        payload = unpacked;
        codec = CODEC_DELTA;
    }
    bool good = codec == CODEC_RAW     ? decode_raw(payload, len, info->count, out)
                : codec == CODEC_DELTA ? decode_delta(payload, len, info->count, out)
                                       : false;
    out->count = info->count;
    return good ? STATUS_OK : damaged(err);
}
