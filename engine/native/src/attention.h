// Attention over the paged cache: one tile of queries against all keys they may see.
//
// Sixteen query rows that share a key head make one tile: the query heads of one position when decoding, so that
// the cache is read once for all of them, and several positions' heads when prefilling.
// Scores are computed keys by queries: then maximum, exponential and sum run along registers, without a
// horizontal step. Everything between the products is float32.
//
// A tile with a query or two is mostly nothing: those go through the vector units, one after the other.
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
constexpr int kFewQueries = 2;   // queries that are sooner attended one by one than in a tile

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

// Two rows of 32 values as pairs, as the second operand of a product wants them.
struct Pairs {
  __m512i lower, upper;  // of the first 16 columns, and of the others
};

inline Pairs interleave(const bfloat16* even, const bfloat16* odd) {
  const __m512i order = _mm512_set_epi16(
      47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
  const __m512i a = _mm512_loadu_si512(even), b = _mm512_loadu_si512(odd);
  return {_mm512_permutex2var_epi16(a, order, b), _mm512_permutex2var_epi16(a, _mm512_add_epi16(order, _mm512_set1_epi16(16)), b)};
}

// Interleave pairs of value rows, for a tile.
inline void pack_values(const Cache& cache, int head, int first, Scratch& scratch) {
  const bfloat16* rows = cache.values + cache.at(first, head);
  for (int pair = 0; pair < kKeys / 2; ++pair, rows += 2 * cache.stride()) {
    for (int d = 0; d < cache.size; d += 32) {
      const Pairs pairs = interleave(rows + d, rows + cache.stride() + d);
      bfloat16* to = scratch.values + (static_cast<std::size_t>(d / 16) * (kKeys / 2) + pair) * 32;
      _mm512_store_si512(to, pairs.lower);
      _mm512_store_si512(to + (kKeys / 2) * 32, pairs.upper);
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

// Scores of keys [first, last) for one query into scratch, one after another; returns their maximum.
template <int kChunks>
float score_row(const Cache& cache, int head, const Queries& queries, int row, int first, int last, Scratch& scratch) {
  const __m512i from = _mm512_set1_epi32(queries.from[row]), upto = _mm512_set1_epi32(queries.upto[row]);
  const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512 nothing = _mm512_set1_ps(-INFINITY);
  __m512bh query[kChunks];
  for (int c = 0; c < kChunks; ++c) query[c] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(queries.rows[row] + c * 32));
  __m512 largest = nothing;
  for (int key = first; key < last; key += kTile) {
    const bfloat16* keys = cache.keys + cache.at(key, head);
    __m512 sums[kTile] = {};
    for (int i = 0; i < kTile; ++i, keys += cache.stride()) {
      for (int c = 0; c < kChunks; ++c) {
        sums[i] = _mm512_dpbf16_ps(sums[i], reinterpret_cast<__m512bh>(_mm512_loadu_si512(keys + c * 32)), query[c]);
      }
    }
    transpose(sums);
    for (int half = kTile / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) sums[i] = _mm512_add_ps(sums[i], sums[i + half]);
    }
    __m512 scores = _mm512_mul_ps(sums[0], _mm512_set1_ps(queries.scaling));
    const __m512i index = _mm512_add_epi32(_mm512_set1_epi32(key), lanes);
    const __mmask16 below = _mm512_cmplt_epi32_mask(index, upto);
    if (queries.scores[row] != nullptr) _mm512_mask_storeu_ps(queries.scores[row] + key, below, scores);
    if (queries.cap > 0) scores = capped(scores, queries.cap);
    scores = _mm512_mask_blend_ps(below & _mm512_cmple_epi32_mask(from, index), nothing, scores);
    _mm512_store_ps(scratch.scores + (key - first), scores);
    largest = _mm512_max_ps(largest, scores);
  }
  return _mm512_reduce_max_ps(largest);
}

// Add exp(score - base) times values to `out`; returns the sum of these weights.
template <int kChunks>
float weigh_row(const Cache& cache, int head, float base, int first, int last, const Scratch& scratch, __m512 (&out)[2 * kChunks]) {
  __m512 sums = _mm512_setzero_ps();
  for (int key = first; key < last; key += kTile) {
    const __m512 weights = exponential(_mm512_sub_ps(_mm512_load_ps(scratch.scores + (key - first)), _mm512_set1_ps(base)));
    sums = _mm512_add_ps(sums, weights);
    alignas(32) bfloat16 rounded[kTile];
    store_bf16(rounded, weights);
    const bfloat16* values = cache.values + cache.at(key, head);
    for (int i = 0; i < kTile; i += 2, values += 2 * cache.stride()) {
      const auto both = reinterpret_cast<__m512bh>(_mm512_set1_epi32(broadcast_word(rounded + i)));
      for (int c = 0; c < kChunks; ++c) {
        const Pairs pairs = interleave(values + c * 32, values + cache.stride() + c * 32);
        out[2 * c] = _mm512_dpbf16_ps(out[2 * c], reinterpret_cast<__m512bh>(pairs.lower), both);
        out[2 * c + 1] = _mm512_dpbf16_ps(out[2 * c + 1], reinterpret_cast<__m512bh>(pairs.upper), both);
      }
    }
  }
  return _mm512_reduce_add_ps(sums);
}

// Attend one query, of a head of 32 * kChunks, over the keys [first, last).
template <int kChunks>
void attend_row(const Cache& cache, int head, const Queries& queries, int row, int first, int last, Scratch& scratch) {
  __m512 out[2 * kChunks] = {};
  float largest = -INFINITY, sum = 0;
  for (int begin = first / kKeys * kKeys; begin < last; begin += kSegment) {
    const int end = std::min(begin + kSegment, last);
    scratch.used = std::max(scratch.used, (end - begin + kKeys - 1) / kKeys * kKeys);
    const float joint = std::max(largest, score_row<kChunks>(cache, head, queries, row, begin, end, scratch));
    if (joint == -INFINITY) continue;  // it sees none of these
    if (sum > 0) {
      const __m512 shrink = exponential(_mm512_set1_ps(largest - joint));
      for (__m512& part : out) part = _mm512_mul_ps(part, shrink);
      sum *= _mm512_cvtss_f32(shrink);
    }
    largest = joint;
    sum += weigh_row<kChunks>(cache, head, joint, begin, end, scratch, out);
  }
  for (int i = 0; i < 2 * kChunks; ++i) store_bf16(queries.out[row] + i * kTile, _mm512_mul_ps(out[i], _mm512_set1_ps(1.0f / sum)));
}

inline void attend_rows(const Cache& cache, int head, const Queries& queries, int count, int first, int last, Scratch& scratch) {
  for (int row = 0; row < count; ++row) {
    switch (cache.size / 32) {
      case 1: attend_row<1>(cache, head, queries, row, first, last, scratch); break;
      case 2: attend_row<2>(cache, head, queries, row, first, last, scratch); break;
      case 3: attend_row<3>(cache, head, queries, row, first, last, scratch); break;
      case 4: attend_row<4>(cache, head, queries, row, first, last, scratch); break;
      case 5: attend_row<5>(cache, head, queries, row, first, last, scratch); break;
      case 6: attend_row<6>(cache, head, queries, row, first, last, scratch); break;
      case 7: attend_row<7>(cache, head, queries, row, first, last, scratch); break;
      case 8: attend_row<8>(cache, head, queries, row, first, last, scratch); break;
    }
  }
}

}  // namespace detail

// Attend a tile of queries of one key head over the keys [first, last) that any of them sees.
// Blocks must be allocated up to the next multiple of 32 positions. Weights of keys past `last` are zero, so
// what lies there must only be finite.
inline void attend(const Cache& cache, int head, const Queries& queries, int first, int last, Scratch& scratch) {
  const int count = std::find(queries.rows, queries.rows + kTile, nullptr) - queries.rows;
  if (count <= kFewQueries) return detail::attend_rows(cache, head, queries, count, first, last, scratch);
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
