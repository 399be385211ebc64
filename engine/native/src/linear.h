// y = x W^T for weights packed once, in the one layout that suits both a single row and many.
//
// Weights are cut into panels of 32 outputs; a panel is two halves of 16 outputs, interleaved by depth:
//   bfloat16: [panel][half][depth / 2][16 outputs][2 depths]      one tile of AMX a 32 depths
//   int8:     [panel][half][depth / 4][16 outputs][4 depths]      one tile of AMX a 64 depths
// so that a row of 64 bytes is also one AVX-512 operand over 16 outputs. Int8 weights are stored
// plus 128, unsigned, with one scale an output and 64 depths: [panel][half][depth / 64][16], bfloat16.
// Activations are quantised the same way, signed, with a scale a row and 64 depths: an outlier spoils
// the resolution of its own 64 neighbours and of nobody else.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "tiles.h"

namespace sottovoce {

constexpr int kPanel = 32;   // outputs of a panel
constexpr int kGroup = 64;   // depths that share a scale
constexpr int kFew = 4;      // rows that AVX-512 takes in one pass; beyond (for int8: twice that), tiles are faster
constexpr int kPrefetch = 2048;

using bfloat16 = std::uint16_t;

inline __m512 widen(__m256i packed) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(packed), 16)); }
inline __m512 load_bf16(const bfloat16* from) { return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))); }
inline void store_bf16(bfloat16* to, __m512 values) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
}

// A packed weight matrix: `depth` a multiple of 64, `panels` of 32 outputs.
struct Weights {
  const void* values;
  const bfloat16* scales;  // null: the values are bfloat16
  const float* bias;       // null: none
  int depth;
  int panels;
};

// Rows to multiply, in both forms; the quantised one is made only for int8 weights.
// Both have room for a multiple of 16 rows.
struct Rows {
  const bfloat16* values;       // [rows][depth]
  const std::int8_t* quantised; // [rows][depth]
  const float* scales;          // [depth / 64][rows rounded up to 16]
  const std::int32_t* sums;     // the same shape: 128 * the sum of the group's quantised values
  int count;
  int padded;                   // count rounded up to a multiple of 16
};

// Quantise one row; max |x| of each 64 becomes 127.
inline void quantise(const bfloat16* row, int depth, int index, int padded, std::int8_t* out, float* scales, std::int32_t* sums) {
  for (int group = 0; group < depth / kGroup; ++group) {
    __m512 parts[4];
    __m512 largest = _mm512_setzero_ps();
    for (int i = 0; i < 4; ++i) {
      parts[i] = load_bf16(row + group * kGroup + i * 16);
      largest = _mm512_max_ps(largest, _mm512_abs_ps(parts[i]));
    }
    const float scale = _mm512_reduce_max_ps(largest) / 127.0f;
    const __m512 inverse = _mm512_set1_ps(scale > 0 ? 1.0f / scale : 0.0f);
    __m512i sum = _mm512_setzero_si512();
    for (int i = 0; i < 4; ++i) {
      const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(parts[i], inverse));
      sum = _mm512_add_epi32(sum, rounded);
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + group * kGroup + i * 16), _mm512_cvtsepi32_epi8(rounded));
    }
    scales[group * padded + index] = scale;
    sums[group * padded + index] = 128 * _mm512_reduce_add_epi32(sum);
  }
}

namespace detail {

inline int broadcast_word(const void* from) {
  int word;
  __builtin_memcpy(&word, from, sizeof word);
  return word;
}

// Up to four rows against one panel, bfloat16. store(row, first half, second half).
template <int kRows, class Store>
void few_bf16(const Weights& w, const Rows& x, int first, int panel, Store&& store) {
  const char* left = static_cast<const char*>(w.values) + static_cast<std::size_t>(panel) * w.depth * kPanel * 2;
  const char* right = left + static_cast<std::size_t>(w.depth) * kTile * 2;
  __m512 sums[kRows][2][2] = {};
  for (int k = 0; k < w.depth; k += 4, left += 128, right += 128) {
    _mm_prefetch(left + kPrefetch, _MM_HINT_T0);
    _mm_prefetch(left + kPrefetch + 64, _MM_HINT_T0);
    _mm_prefetch(right + kPrefetch, _MM_HINT_T0);
    _mm_prefetch(right + kPrefetch + 64, _MM_HINT_T0);
    for (int pair = 0; pair < 2; ++pair) {
      const auto a = reinterpret_cast<__m512bh>(_mm512_loadu_si512(left + pair * 64));
      const auto b = reinterpret_cast<__m512bh>(_mm512_loadu_si512(right + pair * 64));
      for (int row = 0; row < kRows; ++row) {
        const bfloat16* at = x.values + static_cast<std::size_t>(first + row) * w.depth + k + pair * 2;
        const auto both = reinterpret_cast<__m512bh>(_mm512_set1_epi32(broadcast_word(at)));
        sums[row][0][pair] = _mm512_dpbf16_ps(sums[row][0][pair], a, both);
        sums[row][1][pair] = _mm512_dpbf16_ps(sums[row][1][pair], b, both);
      }
    }
  }
  for (int row = 0; row < kRows; ++row) {
    store(first + row, _mm512_add_ps(sums[row][0][0], sums[row][0][1]), _mm512_add_ps(sums[row][1][0], sums[row][1][1]));
  }
}

// Up to eight rows against one panel, int8. One pass: a second one takes its time after the memory's and not beside it.
template <int kRows, class Store>
void few_int8(const Weights& w, const Rows& x, int first, int panel, Store&& store) {
  const char* left = static_cast<const char*>(w.values) + static_cast<std::size_t>(panel) * w.depth * kPanel;
  const char* right = left + static_cast<std::size_t>(w.depth) * kTile;
  const int groups = w.depth / kGroup;
  const bfloat16* scale = w.scales + static_cast<std::size_t>(panel) * groups * kPanel;
  __m512 sums[kRows][2] = {};
  for (int group = 0; group < groups; ++group) {
    __m512i parts[kRows][2];
    for (int row = 0; row < kRows; ++row) {
      parts[row][0] = parts[row][1] = _mm512_set1_epi32(-x.sums[group * x.padded + first + row]);
    }
    for (int k = group * kGroup; k < (group + 1) * kGroup; k += 4, left += 64, right += 64) {
      _mm_prefetch(left + kPrefetch, _MM_HINT_T0);
      _mm_prefetch(right + kPrefetch, _MM_HINT_T0);
      const __m512i a = _mm512_loadu_si512(left), b = _mm512_loadu_si512(right);
      for (int row = 0; row < kRows; ++row) {
        const __m512i four = _mm512_set1_epi32(broadcast_word(x.quantised + static_cast<std::size_t>(first + row) * w.depth + k));
        parts[row][0] = _mm512_dpbusd_epi32(parts[row][0], a, four);
        parts[row][1] = _mm512_dpbusd_epi32(parts[row][1], b, four);
      }
    }
    const __m512 a = load_bf16(scale + group * kTile), b = load_bf16(scale + (groups + group) * kTile);
    for (int row = 0; row < kRows; ++row) {
      const __m512 of_row = _mm512_set1_ps(x.scales[group * x.padded + first + row]);
      sums[row][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(parts[row][0]), _mm512_mul_ps(a, of_row), sums[row][0]);
      sums[row][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(parts[row][1]), _mm512_mul_ps(b, of_row), sums[row][1]);
    }
  }
  for (int row = 0; row < kRows; ++row) store(first + row, sums[row][0], sums[row][1]);
}

// Hand 16 or 32 rows by 32 outputs, stored tile by tile, to `store`.
template <int kBlocks, class Store>
void emit(const float (*tiles)[kTile * kTile], const Rows& x, int first, Store&& store) {
  for (int block = 0; block < kBlocks; ++block) {
    for (int row = 0; row < kTile && first + block * kTile + row < x.count; ++row) {
      store(first + block * kTile + row, _mm512_load_ps(tiles[block * 2] + row * kTile), _mm512_load_ps(tiles[block * 2 + 1] + row * kTile));
    }
  }
}

// 16 or 32 rows against one panel, bfloat16, on tiles.
template <int kBlocks, class Store>
void many_bf16(const Weights& w, const Rows& x, int first, int panel, Store&& store) {
  const char* left = static_cast<const char*>(w.values) + static_cast<std::size_t>(panel) * w.depth * kPanel * 2;
  const char* right = left + static_cast<std::size_t>(w.depth) * kTile * 2;
  const std::size_t stride = static_cast<std::size_t>(w.depth) * 2;
  const char* above = reinterpret_cast<const char*>(x.values) + static_cast<std::size_t>(first) * stride;
  const char* below = above + kTile * stride;
  _tile_zero(0);
  _tile_zero(1);
  if constexpr (kBlocks == 2) {
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int k = 0; k < w.depth; k += 32, left += 1024, right += 1024, above += 64, below += 64) {
    _tile_loadd(4, above, stride);
    _tile_loadd(6, left, 64);
    _tile_loadd(7, right, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    if constexpr (kBlocks == 2) {
      _tile_loadd(5, below, stride);
      _tile_dpbf16ps(2, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  alignas(64) float tiles[4][kTile * kTile];
  _tile_stored(0, tiles[0], 64);
  _tile_stored(1, tiles[1], 64);
  if constexpr (kBlocks == 2) {
    _tile_stored(2, tiles[2], 64);
    _tile_stored(3, tiles[3], 64);
  }
  emit<kBlocks>(tiles, x, first, store);
}

// The same for int8: sums of 64 depths leave the tiles, are scaled, and add up in float32.
template <int kBlocks, class Store>
void many_int8(const Weights& w, const Rows& x, int first, int panel, Store&& store) {
  const char* left = static_cast<const char*>(w.values) + static_cast<std::size_t>(panel) * w.depth * kPanel;
  const char* right = left + static_cast<std::size_t>(w.depth) * kTile;
  const std::size_t stride = static_cast<std::size_t>(w.depth);
  const char* above = reinterpret_cast<const char*>(x.quantised) + static_cast<std::size_t>(first) * stride;
  const char* below = above + kTile * stride;
  const int groups = w.depth / kGroup;
  const bfloat16* scale = w.scales + static_cast<std::size_t>(panel) * groups * kPanel;
  alignas(64) float sums[4][kTile * kTile] = {};
  alignas(64) std::int32_t parts[4][kTile * kTile];
  for (int group = 0; group < groups; ++group, left += 1024, right += 1024, above += 64, below += 64) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_loadd(4, above, stride);
    _tile_loadd(6, left, 64);
    _tile_loadd(7, right, 64);
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 7);
    if constexpr (kBlocks == 2) {
      _tile_zero(2);
      _tile_zero(3);
      _tile_loadd(5, below, stride);
      _tile_dpbsud(2, 5, 6);
      _tile_dpbsud(3, 5, 7);
    }
    _tile_stored(0, parts[0], 64);
    _tile_stored(1, parts[1], 64);
    if constexpr (kBlocks == 2) {
      _tile_stored(2, parts[2], 64);
      _tile_stored(3, parts[3], 64);
    }
    const __m512 of_half[2] = {load_bf16(scale + group * kTile), load_bf16(scale + (groups + group) * kTile)};
    for (int block = 0; block < kBlocks; ++block) {
      const int at = group * x.padded + first + block * kTile;
      const int rows = std::min(kTile, x.count - first - block * kTile);
      for (int row = 0; row < rows; ++row) {
        const __m512i offset = _mm512_set1_epi32(x.sums[at + row]);
        const __m512 of_row = _mm512_set1_ps(x.scales[at + row]);
        for (int half = 0; half < 2; ++half) {
          float* sum = sums[block * 2 + half] + row * kTile;
          const __m512 part = _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_load_si512(parts[block * 2 + half] + row * kTile), offset));
          _mm512_store_ps(sum, _mm512_fmadd_ps(part, _mm512_mul_ps(of_half[half], of_row), _mm512_load_ps(sum)));
        }
      }
    }
  }
  emit<kBlocks>(sums, x, first, store);
}

}  // namespace detail

// Rows [first, last) against one panel. `first` is a multiple of 16.
template <class Store>
void multiply(const Weights& w, const Rows& x, int first, int last, int panel, Store&& plain) {
  auto store = [&](int row, __m512 a, __m512 b) {
    if (w.bias != nullptr) {
      a = _mm512_add_ps(a, _mm512_loadu_ps(w.bias + panel * kPanel));
      b = _mm512_add_ps(b, _mm512_loadu_ps(w.bias + panel * kPanel + kTile));
    }
    plain(row, a, b);
  };
  const bool whole = w.scales == nullptr;
  if (last - first <= (whole ? kFew : 2 * kFew)) {
    switch (last - first) {
      case 1: return whole ? detail::few_bf16<1>(w, x, first, panel, store) : detail::few_int8<1>(w, x, first, panel, store);
      case 2: return whole ? detail::few_bf16<2>(w, x, first, panel, store) : detail::few_int8<2>(w, x, first, panel, store);
      case 3: return whole ? detail::few_bf16<3>(w, x, first, panel, store) : detail::few_int8<3>(w, x, first, panel, store);
      case 4: return whole ? detail::few_bf16<4>(w, x, first, panel, store) : detail::few_int8<4>(w, x, first, panel, store);
      case 5: return detail::few_int8<5>(w, x, first, panel, store);
      case 6: return detail::few_int8<6>(w, x, first, panel, store);
      case 7: return detail::few_int8<7>(w, x, first, panel, store);
      case 8: return detail::few_int8<8>(w, x, first, panel, store);
    }
  }
  for (; first + kTile < last; first += 2 * kTile) {
    whole ? detail::many_bf16<2>(w, x, first, panel, store) : detail::many_int8<2>(w, x, first, panel, store);
  }
  if (first < last) whole ? detail::many_bf16<1>(w, x, first, panel, store) : detail::many_int8<1>(w, x, first, panel, store);
}

}  // namespace sottovoce
