// T's side of Freivalds' check: what is left of a product's rows when they are multiplied with secrets.
//
// With R secret and W the weights, a row y = x W^T leaves z = y R - x (W^T R): nothing but rounding, if the row is
// right. Rows are bfloat16 and read where they lie. All layers are one call. R is one for all layers, [outputs / 2][16][2], and half of what there were to read; the
// sketch of a layer is [inputs][16][2]: -W^T R in two terms.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <system_error>
#include <thread>
#include <vector>

#include "linear.h"
#include "replay.h"
#include "tiles.h"

using namespace sottovoce;

extern "C" {

struct SketchedRows {
  Strided outputs, inputs;
  const bfloat16* secrets; // [outputs / 2][16][2]
  const bfloat16* sketch;  // [layers][inputs][16][2]
  const float* spread;     // [outputs]: how strongly the secrets, together, see an output
  const float* bias;       // [layers][16]: b R, taken away
  float* out;              // [layers][count][18]: z, the noise that rounding explains (see `noise`), |x|^2
  std::int32_t layers, count;
};

// What `out` says of rows, held against the thresholds (engine/verification/linear.py says the same in torch).
struct JudgedRows {
  const float* found;  // [layers][count][18]
  const float* floor;  // [layers]
  float* energy;       // [layers][count], as the next two
  float* peak;
  std::uint8_t* passed;
  std::int32_t layers, count;
  float variance, smallest, scalar, row;  // `scalar` squared
};

}  // extern "C"

namespace {

constexpr int kOut = kTile + 2;

struct Job {
  const bfloat16* y;
  const bfloat16* x;
  const bfloat16* secrets;
  const bfloat16* high;
  const float* spread;
  const float* bias;
  float* out;
  int outputs, inputs;
  std::size_t y_stride, x_stride;

  const bfloat16* low() const { return high + static_cast<std::size_t>(inputs) * kTile; }
};

__m512bh pair(const bfloat16* at) { return reinterpret_cast<__m512bh>(_mm512_set1_epi32(detail::broadcast_word(at))); }
__m512bh secrets(const bfloat16* at) { return reinterpret_cast<__m512bh>(_mm512_loadu_si512(at)); }

// Sum of 4^exponent * spread. Rounding to bfloat16 is off by 2^(exponent - 8) at most and evenly spread, so this over
// 3 * 2^16 is the variance of what it leaves in z, whatever the row holds.
float noise(const bfloat16* y, const float* spread, int count) {
  const __m256i exponents = _mm256_set1_epi16(0x7f80);
  __m512 sums[2] = {};  // two, so that they do not wait for themselves
  for (int i = 0; i < count; i += 32) {
    for (int half = 0; half < 2; ++half) {
      const int at = i + half * 16;
      const __m512 power = widen(_mm256_and_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(y + at)), exponents));
      sums[half] = _mm512_fmadd_ps(_mm512_mul_ps(power, power), _mm512_loadu_ps(spread + at), sums[half]);
    }
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]));
}

float squares(const bfloat16* x, int count) {
  __m512 sums[2] = {};
  for (int i = 0; i < count; i += 64) {
    for (int half = 0; half < 2; ++half) {
      const __m512bh part = secrets(x + i + half * 32);
      sums[half] = _mm512_dpbf16_ps(sums[half], part, part);
    }
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(sums[0], sums[1]));
}

void finish(const Job& job, int row, __m512 z) {
  float* out = job.out + static_cast<std::size_t>(row) * kOut;
  _mm512_storeu_ps(out, _mm512_sub_ps(z, _mm512_loadu_ps(job.bias)));
  out[kTile] = noise(job.y + row * job.y_stride, job.spread, job.outputs);
  out[kTile + 1] = squares(job.x + row * job.x_stride, job.inputs);
}

// One or two rows, in AVX-512; `kChains` sums a row, so that they do not wait for themselves.
template <int kRows, int kChains>
void few(const Job& job, int first) {
  __m512 sums[kRows][kChains] = {};
  const auto add = [&](const bfloat16* sketch, const bfloat16* from, std::size_t stride, int count) {
    for (int i = 0; i < count; i += 2 * kChains) {
      for (int chain = 0; chain < kChains; ++chain) {
        _mm_prefetch(reinterpret_cast<const char*>(sketch + (i + 2 * chain) * kTile) + kPrefetch, _MM_HINT_T0);
        const __m512bh r = secrets(sketch + static_cast<std::size_t>(i + 2 * chain) * kTile);
        for (int row = 0; row < kRows; ++row) sums[row][chain] = _mm512_dpbf16_ps(sums[row][chain], r, pair(from + row * stride + i + 2 * chain));
      }
    }
  };
  const bfloat16 *y = job.y + first * job.y_stride, *x = job.x + first * job.x_stride;
  add(job.secrets, y, job.y_stride, job.outputs);
  add(job.high, x, job.x_stride, job.inputs);
  add(job.low(), x, job.x_stride, job.inputs);
  for (int row = 0; row < kRows; ++row) {
    for (int chain = 1; chain < kChains; ++chain) sums[row][0] = _mm512_add_ps(sums[row][0], sums[row][chain]);
    finish(job, first + row, sums[row][0]);
  }
}

// Tiles as high as there are rows: reading beyond the last one would leave the buffer.
void configure(int above, int below) {
  struct alignas(64) Config {
    unsigned char palette = 1, start_row = 0, reserved[14] = {};
    unsigned short bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    unsigned char rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  config.rows[0] = config.rows[2] = config.rows[4] = static_cast<unsigned char>(above);
  if (below > 0) config.rows[1] = config.rows[3] = config.rows[5] = static_cast<unsigned char>(below);
  asm volatile("ldtilecfg %0" : : "m"(config));
}

// Up to 16 rows, or more and up to 32, on tiles.
template <bool kBelow>
void many(const Job& job, int first, int count) {
  configure(std::min(count, kTile), count - kTile);
  std::size_t stride = job.y_stride * 2;
  const char* above = reinterpret_cast<const char*>(job.y) + first * stride;
  const char* below = above + kTile * stride;
  _tile_zero(0);
  _tile_zero(2);
  if constexpr (kBelow) {
    _tile_zero(1);
    _tile_zero(3);
  }
  for (int k = 0; k < job.outputs; k += 32) {
    _tile_loadd(4, above + k * 2, stride);
    _tile_loadd(6, job.secrets + static_cast<std::size_t>(k) * kTile, 64);
    _tile_dpbf16ps(0, 4, 6);
    if constexpr (kBelow) {
      _tile_loadd(5, below + k * 2, stride);
      _tile_dpbf16ps(1, 5, 6);
    }
  }
  stride = job.x_stride * 2;
  above = reinterpret_cast<const char*>(job.x) + first * stride;
  below = above + kTile * stride;
  for (int k = 0; k < job.inputs; k += 32) {
    _tile_loadd(4, above + k * 2, stride);
    _tile_loadd(6, job.high + static_cast<std::size_t>(k) * kTile, 64);
    _tile_loadd(7, job.low() + static_cast<std::size_t>(k) * kTile, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(2, 4, 7);
    if constexpr (kBelow) {
      _tile_loadd(5, below + k * 2, stride);
      _tile_dpbf16ps(1, 5, 6);
      _tile_dpbf16ps(3, 5, 7);
    }
  }
  alignas(64) float tiles[4][kTile * kTile];
  _tile_stored(0, tiles[0], 64);
  _tile_stored(2, tiles[2], 64);
  if constexpr (kBelow) {
    _tile_stored(1, tiles[1], 64);
    _tile_stored(3, tiles[3], 64);
  }
  for (int row = 0; row < count; ++row) {
    const int tile = row / kTile, at = row % kTile * kTile;
    finish(job, first + row, _mm512_add_ps(_mm512_load_ps(tiles[tile] + at), _mm512_load_ps(tiles[tile + 2] + at)));
  }
}

// Up to 32 rows.
void residuals(const Job& job, int row, int left) {
  if (left == 1) {
    few<1, 8>(job, row);
  } else if (left == 2) {
    few<2, 4>(job, row);
  } else if (left <= kTile) {
    many<false>(job, row, left);
  } else {
    many<true>(job, row, left);
  }
}

constexpr int kRows = 2 * kTile;

int pieces(const SketchedRows& of) { return of.layers * ((of.count + kRows - 1) / kRows); }

void piece(const SketchedRows& of, int index) {
  const std::size_t each = (of.count + kRows - 1) / kRows, layer = index / each;
  const int row = static_cast<int>(index % each) * kRows;
  const Job job{
      of.outputs.layer(layer), of.inputs.layer(layer), of.secrets, of.sketch + layer * 2 * of.inputs.width * kTile, of.spread,
      of.bias + layer * kTile, of.out + layer * of.count * kOut, of.outputs.width, of.inputs.width,
      static_cast<std::size_t>(of.outputs.row_stride), static_cast<std::size_t>(of.inputs.row_stride),
  };
  residuals(job, row, std::min(of.count - row, kRows));
}

// Threads are begun for as long as it takes, where that is long enough for them; one at least is there. Where others'
// threads still spin, the last piece of one that has no processor is waited for.
constexpr std::size_t kWorthwhile = std::size_t{16} << 20;  // bytes that are read, some two milliseconds

template <class Work>
void share(int threads, Work&& work) {
  std::vector<std::thread> others;
  try {
    for (int i = 1; i < threads; ++i) others.emplace_back(std::ref(work));
  } catch (const std::system_error&) {
    // No more threads: those that there are do it.
  }
  work();
  for (auto& other : others) other.join();
}

}  // namespace

extern "C" {

void sottovoce_residuals(const SketchedRows* all, std::int32_t matrices, std::int32_t threads) {
  int count = 0;
  std::size_t bytes = 0;
  for (const SketchedRows* of = all; of < all + matrices; ++of) {
    count += pieces(*of);
    bytes += static_cast<std::size_t>(of->layers) * of->count * (of->outputs.width + of->inputs.width) * sizeof(bfloat16);
  }
  std::atomic<int> next{0};
  share(bytes < kWorthwhile ? 1 : threads, [&] {
    for (int index; (index = next.fetch_add(1)) < count;) {
      const SketchedRows* of = all;
      for (int own; index >= (own = pieces(*of)); ++of) index -= own;
      piece(*of, index);
    }
    _tile_release();
  });
}

void sottovoce_judge(const JudgedRows* j) {
  for (std::size_t at = 0; at < static_cast<std::size_t>(j->layers) * j->count; ++at) {
    const float* found = j->found + at * kOut;
    const __m512 z = _mm512_loadu_ps(found), squared = _mm512_mul_ps(z, z);
    const float variance = found[kTile] * j->variance + found[kTile + 1] * j->floor[at / j->count] + j->smallest;
    const float energy = _mm512_reduce_add_ps(squared) / kTile / variance, peak = _mm512_reduce_max_ps(squared) / variance;
    // What is no number is lost by the maximum, but not by the sum; and passes no comparison.
    j->passed[at] = peak <= j->scalar && energy <= j->row && variance < std::numeric_limits<float>::infinity();
    j->energy[at] = energy;
    j->peak[at] = std::sqrt(peak);
  }
}

void sottovoce_replay(const Replay* replay, std::int32_t threads) {
  const std::size_t width = 0u + replay->qkv.outputs.width + replay->output.outputs.width + replay->gate_up.outputs.width + replay->down.outputs.width;
  std::atomic<int> next{0};
  share(width * replay->layers * replay->count * sizeof(bfloat16) < kWorthwhile ? 1 : threads, [&] {
    Replayer replayer(*replay);
    for (int row; (row = next.fetch_add(1)) < replay->count;) replayer.row(row);
  });
}

}  // extern "C"
