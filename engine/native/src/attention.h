// Attention over the paged cache: one tile of queries against all keys they may see.
//
// Sixteen query rows that share a key head make one tile: the query heads of one position when decoding, so that
// the cache is read once for all of them, and several positions' heads when prefilling.
// Scores are computed keys by queries: then maximum, exponential and sum run along registers, without a
// horizontal step. Everything between the products is float32.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "activation.h"
#include "exponential.h"
#include "linear.h"
#include "tiles.h"

namespace sottovoce {

constexpr int kKeys = 32;        // keys of one step
constexpr int kMaxHead = 256;    // largest head size
constexpr int kSegment = 2048;   // keys whose scores are held at once

// Where one sequence's keys and values lie in one layer of the pool.
struct Cache {
  const bfloat16* keys;    // [slots][heads][size]
  const bfloat16* values;
  const std::int64_t* blocks;
  int block_size;          // a multiple of 32
  int heads;
  int size;                // head size, a multiple of 32

  std::size_t at(int position, int head) const {
    const std::size_t slot = static_cast<std::size_t>(blocks[position / block_size]) * block_size + position % block_size;
    return (slot * heads + head) * size;
  }
  std::size_t stride() const { return static_cast<std::size_t>(heads) * size; }
};

// A tile of queries: row r attends to keys from[r] .. upto[r] - 1.
struct Queries {
  const bfloat16* rows[kTile];  // null for an unused row
  bfloat16* out[kTile];
  alignas(64) std::int32_t from[kTile];
  alignas(64) std::int32_t upto[kTile];
  float scaling;
  float cap;  // scores become cap * tanh(score / cap); 0 for none
  float* scores[kTile];  // [upto]: scores before the cap, of the rows that are to be checked; null for the others
  bool told;             // whether there are any
};

// Memory of one thread, kept between calls.
struct Scratch {
  alignas(64) bfloat16 queries[kMaxHead * kTile];          // [size / 2][16 queries][2]
  alignas(64) float scores[kSegment * kTile];              // [keys][16 queries]
  alignas(64) bfloat16 weights[kSegment / kKeys][kTile * kKeys];
  alignas(64) bfloat16 values[kKeys * kMaxHead];           // [size / 16][keys / 2][16][2]
  alignas(64) float out[kTile * kMaxHead];                 // [16 queries][size]
  int used = 0;                                            // keys that were scored at most

  void clear() {
    std::memset(queries, 0, sizeof queries);
    std::memset(scores, 0, sizeof(float) * kTile * used);
    std::memset(weights, 0, sizeof(bfloat16) * kTile * used);
    std::memset(values, 0, sizeof values);
    std::memset(out, 0, sizeof out);
    asm volatile("" : : "r"(this) : "memory");
    used = 0;
  }
};

namespace detail {

inline void pack_queries(const Queries& queries, int size, Scratch& scratch) {
  for (int row = 0; row < kTile; ++row) {
    for (int d = 0; d < size; d += 2) {
      int pair = 0;
      if (queries.rows[row] != nullptr) __builtin_memcpy(&pair, queries.rows[row] + d, sizeof pair);
      __builtin_memcpy(scratch.queries + (d / 2 * kTile + row) * 2, &pair, sizeof pair);
    }
  }
}

// Transpose 16 by 16 floats held in registers.
inline void transpose(__m512 (&r)[kTile]) {
  __m512 t[kTile];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
    r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i]), _mm512_castps_pd(t[i + 2])));
    r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
    r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(t[i + 1]), _mm512_castps_pd(t[i + 3])));
  }
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
  }
  for (int i = 0; i < 4; ++i) {
    r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
    r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
    r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
  }
}

// Take down the scores of 16 keys for whoever checks them.
inline void tell(const Queries& queries, const float* scores, __m512 scaling, int key) {
  __m512 of_query[kTile];
  for (int i = 0; i < kTile; ++i) of_query[i] = _mm512_mul_ps(_mm512_load_ps(scores + i * kTile), scaling);
  transpose(of_query);
  for (int row = 0; row < kTile; ++row) {
    const int left = queries.upto[row] - key;
    if (queries.scores[row] == nullptr || left <= 0) continue;
    _mm512_mask_storeu_ps(queries.scores[row] + key, left >= kTile ? 0xffff : (1u << left) - 1, of_query[row]);
  }
}

// Scores of keys [first, last) into scratch; returns their maximum by query. Keys nobody sees are -inf.
inline __m512 score(const Cache& cache, int head, const Queries& queries, int first, int last, Scratch& scratch) {
  const __m512i from = _mm512_load_si512(queries.from), upto = _mm512_load_si512(queries.upto);
  const __m512 scaling = _mm512_set1_ps(queries.scaling);
  const __m512 nothing = _mm512_set1_ps(-INFINITY);
  const int open_from = _mm512_reduce_max_epi32(from), open_upto = _mm512_reduce_min_epi32(upto);
  __m512 largest = nothing;
  for (int key = first; key < last; key += kTile) {
    float* scores = scratch.scores + static_cast<std::size_t>(key - first) * kTile;
    const bfloat16* keys = cache.keys + cache.at(key, head);
    _tile_zero(0);
    for (int d = 0; d < cache.size; d += 32) {
      _tile_loadd(1, keys + d, cache.stride() * 2);
      _tile_loadd(2, scratch.queries + d * kTile, 64);
      _tile_dpbf16ps(0, 1, 2);
    }
    _tile_stored(0, scores, 64);
    if (queries.told) tell(queries, scores, scaling, key);
    for (int i = 0; i < kTile; ++i, scores += kTile) {
      __m512 row = _mm512_mul_ps(_mm512_load_ps(scores), scaling);
      if (queries.cap > 0) row = capped(row, queries.cap);
      if (key + i < open_from || key + i >= open_upto) {
        const __m512i index = _mm512_set1_epi32(key + i);
        const __mmask16 seen = _mm512_cmple_epi32_mask(from, index) & _mm512_cmplt_epi32_mask(index, upto);
        row = _mm512_mask_blend_ps(seen, nothing, row);
      }
      _mm512_store_ps(scores, row);
      largest = _mm512_max_ps(largest, row);
    }
  }
  return largest;
}

// Scores become weights exp(score - maximum), bfloat16, queries by keys; returns their sums by query.
inline __m512 weigh(int count, __m512 largest, Scratch& scratch) {
  // A query that sees none of these keys has no maximum: its weights must be zeros, not NaNs.
  const __mmask16 some = _mm512_cmp_ps_mask(largest, _mm512_set1_ps(-INFINITY), _CMP_GT_OQ);
  const __m512 base = _mm512_maskz_mov_ps(some, largest);
  __m512 sums = _mm512_setzero_ps();
  for (int key = 0; key < count; key += kKeys) {
    __m512 halves[2][kTile];
    for (int i = 0; i < kKeys; ++i) {
      __m512 weight = _mm512_setzero_ps();
      if (key + i < count) weight = exponential(_mm512_sub_ps(_mm512_load_ps(scratch.scores + (key + i) * kTile), base));
      sums = _mm512_add_ps(sums, weight);
      halves[i / kTile][i % kTile] = weight;
    }
    transpose(halves[0]);
    transpose(halves[1]);
    bfloat16* to = scratch.weights[key / kKeys];
    for (int row = 0; row < kTile; ++row, to += kKeys) {
      _mm512_store_si512(to, reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(halves[1][row], halves[0][row])));
    }
  }
  return sums;
}

// Interleave pairs of value rows, as the second operand of a tile product wants them.
inline void pack_values(const Cache& cache, int head, int first, Scratch& scratch) {
  const __m512i order = _mm512_set_epi16(
      47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i upper = _mm512_add_epi16(order, _mm512_set1_epi16(16));
  const bfloat16* rows = cache.values + cache.at(first, head);
  for (int pair = 0; pair < kKeys / 2; ++pair, rows += 2 * cache.stride()) {
    for (int d = 0; d < cache.size; d += 32) {
      const __m512i even = _mm512_loadu_si512(rows + d), odd = _mm512_loadu_si512(rows + cache.stride() + d);
      bfloat16* to = scratch.values + (static_cast<std::size_t>(d / 16) * (kKeys / 2) + pair) * 32;
      _mm512_store_si512(to, _mm512_permutex2var_epi16(even, order, odd));
      _mm512_store_si512(to + (kKeys / 2) * 32, _mm512_permutex2var_epi16(even, upper, odd));
    }
  }
}

// Add weights times values to scratch.out.
inline void gather_values(const Cache& cache, int head, int first, int last, Scratch& scratch) {
  for (int key = first; key < last; key += kKeys) {
    pack_values(cache, head, key, scratch);
    _tile_loadd(3, scratch.weights[(key - first) / kKeys], 64);
    for (int d = 0; d < cache.size; d += kTile) {
      _tile_loadd(4, scratch.out + d, cache.size * 4);
      _tile_loadd(5, scratch.values + d * kKeys, 64);
      _tile_dpbf16ps(4, 3, 5);
      _tile_stored(4, scratch.out + d, cache.size * 4);
    }
  }
}

inline void scale_out(int size, __m512 factors, Scratch& scratch) {
  alignas(64) float of_row[kTile];
  _mm512_store_ps(of_row, factors);
  for (int row = 0; row < kTile; ++row) {
    const __m512 factor = _mm512_set1_ps(of_row[row]);
    for (int d = 0; d < size; d += 16) {
      float* at = scratch.out + row * size + d;
      _mm512_store_ps(at, _mm512_mul_ps(_mm512_load_ps(at), factor));
    }
  }
}

}  // namespace detail

// Attend a tile of queries of one key head over the keys [first, last) that any of them sees.
// Blocks must be allocated up to the next multiple of 32 positions. Weights of keys past `last` are zero, so
// what lies there must only be finite.
inline void attend(const Cache& cache, int head, const Queries& queries, int first, int last, Scratch& scratch) {
  detail::pack_queries(queries, cache.size, scratch);
  std::fill_n(scratch.out, kTile * cache.size, 0.0f);
  __m512 largest = _mm512_set1_ps(-INFINITY), sums = _mm512_setzero_ps();
  for (int begin = first / kKeys * kKeys; begin < last; begin += kSegment) {
    const int end = std::min(begin + kSegment, last);
    scratch.used = std::max(scratch.used, (end - begin + kKeys - 1) / kKeys * kKeys);
    const __m512 here = detail::score(cache, head, queries, begin, end, scratch);
    const __m512 joint = _mm512_max_ps(largest, here);
    if (begin > first / kKeys * kKeys) {
      const __mmask16 some = _mm512_cmp_ps_mask(largest, _mm512_set1_ps(-INFINITY), _CMP_GT_OQ);
      const __m512 shrink = _mm512_maskz_mov_ps(some, exponential(_mm512_sub_ps(_mm512_maskz_mov_ps(some, largest), _mm512_maskz_mov_ps(some, joint))));
      detail::scale_out(cache.size, shrink, scratch);
      sums = _mm512_mul_ps(sums, shrink);
    }
    largest = joint;
    sums = _mm512_add_ps(sums, detail::weigh((end - begin + kTile - 1) / kTile * kTile, joint, scratch));
    detail::gather_values(cache, head, begin, end, scratch);
  }
  detail::scale_out(cache.size, _mm512_div_ps(_mm512_set1_ps(1.0f), sums), scratch);
  for (int row = 0; row < kTile; ++row) {
    if (queries.out[row] == nullptr) continue;
    for (int d = 0; d < cache.size; d += 16) store_bf16(queries.out[row] + d, _mm512_load_ps(scratch.out + row * cache.size + d));
  }
}

}  // namespace sottovoce
