// T's side of decode attention: one row's scores and output, against running sketches of keys and values, and how
// those grow by a position.
//
// With r secret, sum_j r_j s_j is c q.(sum_j r_j k_j) if the scores s are right; and with p their softmax and R'
// secret, O R' is sum_j p_j (v_j R') if the output O is. All layers and heads are one call, and no cache is read.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "exponential.h"
#include "linear.h"

using namespace sottovoce;

extern "C" {

struct SketchedScores {
  const float* scores;           // [layers][heads][score stride]: scaled
  const bfloat16* queries;       // [layers][heads][size]
  const bfloat16* outputs;       // [layers][heads][size]
  const double* sums;            // [layers][key heads][size][4]: of r k
  const double* power;           // [layers][key heads]: of |k|^2
  const std::int8_t* key_numbers;  // [every layer][key heads][4][key stride]: r
  const float* value_numbers;    // [every layer][key heads][size][16]: R'
  const bfloat16* values;        // [layers][key heads][room][16]: v R'
  const float* squares;          // [layers][key heads][room]: |v|^2
  const std::int32_t* which;     // [layers]: which of every layer
  float* out;                    // [2][layers][heads]: how far scores and outputs are off
  std::int32_t layers, heads, key_heads, size, count, score_stride, key_stride, room;
  float scaling;
};

// A position's key and value, and the sketches that take them in.
struct TakenIn {
  const bfloat16* keys;          // [layers][key heads][size]
  const bfloat16* values;        // likewise
  const std::int8_t* key_numbers;  // of this position: [every layer][key heads][4], `key_stride` apart
  const float* value_numbers;    // as above
  double* sums;                  // as above
  double* power;
  bfloat16* sketched;            // of this position: [layers][key heads][16], 16 rooms apart
  float* squares;                // of this position: [layers][key heads], a room apart
  const std::int32_t* which;
  std::int32_t layers, key_heads, size, key_stride, room;
};

}  // extern "C"

namespace {

constexpr int kSums = 4, kWide = 16, kBlock = 256;
constexpr float kSmallest = 1e-30f, kInfinity = std::numeric_limits<float>::infinity();
constexpr double kMeanSquare = 127.0 * 128.0 / 3.0;             // of a secret number
constexpr float kUnit = static_cast<float>(kMeanSquare / 65536);  // times u^2, u = 2^-8

__mmask16 lanes(int left) { return left >= kWide ? 0xffff : static_cast<__mmask16>((1u << left) - 1); }
float widened(bfloat16 x) { return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(x << 16))); }

// The heads that share a key head go through blocks of positions together, so that secrets are read from near.
struct Head {
  const SketchedScores& all;
  const float *scores, *value_numbers, *squares;
  const std::int8_t* key_numbers;
  const bfloat16 *values, *query, *output;
  const double* sums;
  double power;
  double told[kSums] = {};
  __m512 mixed = {}, total = {}, spread = {};
  alignas(64) float weights[kBlock] = {};  // of one block
  float largest = -kInfinity;

  // The largest of four secret sums, in units of rms(r) |q| sqrt(sum |k|^2) c.
  float scores_off() const {
    double right[kSums] = {}, length = 0;
    for (int i = 0; i < all.size; ++i) {
      const double q = widened(query[i]);
      length += q * q;
      for (int sum = 0; sum < kSums; ++sum) right[sum] += q * sums[i * kSums + sum];
    }
    double off = 0, poison = 0;
    for (int sum = 0; sum < kSums; ++sum) {
      const double error = std::abs(told[sum] - right[sum] * all.scaling);
      off = std::max(off, error);
      poison += error - error;  // not a number, if one of them is none: `max` would lose it
    }
    return static_cast<float>((off + poison) / (std::sqrt(length * power * kMeanSquare) * all.scaling + kSmallest));
  }

  // Sums a block of scores in float32, and blocks in float64; r are the block's numbers.
  void add(int first, const float (*r)[kBlock]) {
    __m512 parts[kSums] = {}, most = _mm512_set1_ps(largest);
    const int stop = std::min(first + kBlock, all.count);
    for (int at = first; at < stop; at += kWide) {
      const __mmask16 mask = lanes(stop - at);
      const __m512 s = _mm512_maskz_loadu_ps(mask, scores + at);
      most = _mm512_mask_max_ps(most, mask, most, s);
      for (int sum = 0; sum < kSums; ++sum) {
        parts[sum] = _mm512_fmadd_ps(s, _mm512_load_ps(r[sum] + at - first), parts[sum]);
      }
    }
    for (int sum = 0; sum < kSums; ++sum) told[sum] += _mm512_reduce_add_ps(parts[sum]);
    grow(_mm512_reduce_max_ps(most));
  }

  // Weights so far were relative to a smaller score.
  void grow(float most) {
    if (!(most > largest)) return;
    const __m512 less = exponential(_mm512_set1_ps(largest - most));
    mixed = _mm512_mul_ps(mixed, less);
    total = _mm512_mul_ps(total, less);
    spread = _mm512_mul_ps(spread, _mm512_mul_ps(less, less));
    largest = most;
  }

  // The weights of a block of scores, and what it adds to their sums.
  void weigh(int first) {
    const int stop = std::min(first + kBlock, all.count);
    for (int at = first; at < stop; at += kWide) {
      const __mmask16 mask = lanes(stop - at);
      const __m512 s = _mm512_maskz_loadu_ps(mask, scores + at);
      const __m512 p = _mm512_maskz_mov_ps(mask, exponential(_mm512_sub_ps(s, _mm512_set1_ps(largest))));
      total = _mm512_add_ps(total, p);
      spread = _mm512_fmadd_ps(_mm512_mul_ps(p, p), _mm512_maskz_loadu_ps(mask, squares + at), spread);
      _mm512_store_ps(weights + at - first, p);
    }
  }

  // Mean square of 16 secret sums, in the square of u sqrt(|o|^2 + sum p^2 |v|^2) rms(R').
  float output_off() const {
    __m512 told = {};
    float length = 0;
    for (int i = 0; i < all.size; ++i) {
      const float o = widened(output[i]);
      length += o * o;
      told = _mm512_fmadd_ps(_mm512_set1_ps(o), _mm512_loadu_ps(value_numbers + i * kWide), told);
    }
    const float share = 1 / _mm512_reduce_add_ps(total);
    const __m512 error = _mm512_fnmadd_ps(mixed, _mm512_set1_ps(share), told);
    const float energy = _mm512_reduce_add_ps(_mm512_mul_ps(error, error)) / kWide;
    return energy / ((length + _mm512_reduce_add_ps(spread) * share * share) * kUnit + kSmallest);
  }
};

// Adds a block's values, weighted, for some heads at once: each value is read once for all of them. `kChains` sums a
// head, so that they do not wait for themselves.
template <int kHeads, int kChains>
void mix(Head* heads, const bfloat16* values, int count) {
  __m512 sums[kHeads][kChains] = {};
  const auto add = [&](int at, int chain) {
    const __m512 value = load_bf16(values + at * kWide);
    for (int head = 0; head < kHeads; ++head) {
      sums[head][chain] = _mm512_fmadd_ps(_mm512_set1_ps(heads[head].weights[at]), value, sums[head][chain]);
    }
  };
  int at = 0;
  for (; at + kChains <= count; at += kChains) {
    for (int chain = 0; chain < kChains; ++chain) add(at + chain, chain);
  }
  for (; at < count; ++at) add(at, 0);
  for (int head = 0; head < kHeads; ++head) {
    for (const __m512 sum : sums[head]) heads[head].mixed = _mm512_add_ps(heads[head].mixed, sum);
  }
}

void mix_all(std::vector<Head>& heads, int first, int count) {
  const bfloat16* values = heads[0].values + static_cast<std::size_t>(first) * kWide;
  std::size_t at = 0;
  for (; at + 4 <= heads.size(); at += 4) mix<4, 4>(&heads[at], values, count);
  switch (heads.size() - at) {
    case 3: return mix<3, 4>(&heads[at], values, count);
    case 2: return mix<2, 4>(&heads[at], values, count);
    case 1: return mix<1, 8>(&heads[at], values, count);
    default: return;
  }
}

Head head_of(const SketchedScores& all, std::size_t layer, std::size_t head) {
  const std::size_t row = layer * all.heads + head, size = all.size;
  const std::size_t shared = head / (all.heads / all.key_heads);
  const std::size_t own = layer * all.key_heads + shared, every = static_cast<std::size_t>(all.which[layer]) * all.key_heads + shared;
  return {
      .all = all,
      .scores = all.scores + row * all.score_stride,
      .value_numbers = all.value_numbers + every * size * kWide,
      .squares = all.squares + own * all.room,
      .key_numbers = all.key_numbers + every * kSums * all.key_stride,
      .values = all.values + own * all.room * kWide,
      .query = all.queries + row * size,
      .output = all.outputs + row * size,
      .sums = all.sums + own * size * kSums,
      .power = all.power[own],
  };
}

void spread_out(const std::int8_t* numbers, float* r, int count) {
  for (int at = 0; at < count; at += kWide) {
    const __m128i few = _mm_maskz_loadu_epi8(lanes(count - at), numbers + at);
    _mm512_store_ps(r + at, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(few)));
  }
}

void judge(std::vector<Head>& heads, int count, float* scores_off, float* outputs_off) {
  alignas(64) float r[kSums][kBlock];  // of a block: T's, and too many of them to keep as such
  for (int first = 0; first < count; first += kBlock) {
    const std::int8_t* numbers = heads[0].key_numbers + first;
    const std::size_t stride = heads[0].all.key_stride;
    for (std::size_t sum = 0; sum < kSums; ++sum) spread_out(numbers + sum * stride, r[sum], std::min(kBlock, count - first));
    for (Head& head : heads) {
      head.add(first, r);
      head.weigh(first);
    }
    mix_all(heads, first, std::min(kBlock, count - first));
  }
  for (const Head& head : heads) {
    *scores_off++ = head.scores_off();
    *outputs_off++ = head.output_off();
  }
}

void take_in(const TakenIn& all, std::size_t own, std::size_t every) {
  const bfloat16 *key = all.keys + own * all.size, *value = all.values + own * all.size;
  const std::int8_t* r = all.key_numbers + every * kSums * all.key_stride;
  const float* numbers = all.value_numbers + every * all.size * kWide;
  double* sums = all.sums + own * all.size * kSums;
  __m512 sketched[2] = {};
  double power = 0;
  float squares = 0;
  for (int i = 0; i < all.size; ++i) {
    const double k = widened(key[i]);
    const float v = widened(value[i]);
    power += k * k;
    squares += v * v;
    for (int sum = 0; sum < kSums; ++sum) sums[i * kSums + sum] += k * r[static_cast<std::size_t>(sum) * all.key_stride];
    sketched[i % 2] = _mm512_fmadd_ps(_mm512_set1_ps(v), _mm512_loadu_ps(numbers + i * kWide), sketched[i % 2]);
  }
  all.power[own] += power;
  const __m256bh rounded = _mm512_cvtneps_pbh(_mm512_add_ps(sketched[0], sketched[1]));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(all.sketched + own * all.room * kWide), reinterpret_cast<const __m256i&>(rounded));
  all.squares[own * all.room] = squares;
}

}  // namespace

extern "C" {

void sottovoce_take_in(const TakenIn* all) {
  for (std::size_t own = 0; own < static_cast<std::size_t>(all->layers) * all->key_heads; ++own) {
    take_in(*all, own, static_cast<std::size_t>(all->which[own / all->key_heads]) * all->key_heads + own % all->key_heads);
  }
}

void sottovoce_scores(const SketchedScores* all) {
  const std::size_t shared = all->heads / all->key_heads, rows = static_cast<std::size_t>(all->layers) * all->heads;
  std::vector<Head> heads;
  for (std::size_t row = 0; row < rows; row += shared) {
    heads.clear();
    for (std::size_t at = row; at < row + shared; ++at) heads.push_back(head_of(*all, at / all->heads, at % all->heads));
    judge(heads, all->count, all->out + row, all->out + rows + row);
  }
}

}  // extern "C"
