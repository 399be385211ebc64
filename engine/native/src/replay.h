// What lies between the products, followed through all layers of a row: T's side, in float32.
//
// `engine/verification/rest.py` says the same in torch, and is what this is held against.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "activation.h"
#include "linear.h"

namespace sottovoce {

// Rows, [layers][count][width], somewhere; strides in numbers.
struct Strided {
  const bfloat16* rows;
  std::int64_t layer_stride, row_stride;
  std::int32_t width;

  const bfloat16* layer(std::size_t index) const { return rows + index * layer_stride; }
};

// A matrix's opened rows.
struct Opened {
  Strided outputs, inputs;
};

struct Replay {
  Opened qkv, output, gate_up, down;
  const bfloat16* embeddings;  // [count][hidden]
  const bfloat16* queries;     // [layers][count][heads * size]
  const bfloat16* keys;        // [layers][count][key heads * size]; `values` likewise
  const bfloat16* values;
  const float* cosines;        // [layers][count][size / 2]
  const float* sines;
  const float* norms[6];       // [layers][width] or null: attention, mlp, their post norms, query, key
  const float* final_norm;
  float* steps;                // [6][layers][count]: attention input, mlp input, activated, queries, keys, values
  float* last;                 // [count][hidden]
  float epsilon, embedding_scale, residual_scale;
  std::int32_t activation, gated, centred, parallel, whole_norms;
  std::int32_t layers, count, hidden, heads, key_heads, size;
};

class Replayer {
 public:
  explicit Replayer(const Replay& replay)
      : r(replay), stream_(r.hidden), normed_(r.hidden), beside_(r.hidden), wide_(std::max({r.down.inputs.width, r.qkv.outputs.width, r.hidden})) {}

  ~Replayer() {
    for (auto* scratch : {&stream_, &normed_, &beside_, &wide_}) std::fill(scratch->begin(), scratch->end(), 0.0f);
    asm volatile("" : : "r"(wide_.data()) : "memory");  // the zeros are the point
  }

  void row(int index) {
    row_ = index;
    const bfloat16* from = r.embeddings + static_cast<std::size_t>(index) * r.hidden;
    for (int i = 0; i < r.hidden; i += 16) _mm512_storeu_ps(&stream_[i], _mm512_mul_ps(load_bf16(from + i), _mm512_set1_ps(r.embedding_scale)));
    for (layer_ = 0; layer_ < r.layers; ++layer_) layer();
    norm(r.final_norm, stream_.data(), r.last + static_cast<std::size_t>(index) * r.hidden);
  }

 private:
  enum Place { kAttention, kMlp, kActivated, kQueries, kKeys, kValues };

  const bfloat16* at(const Strided& rows) const { return rows.layer(layer_) + row_ * rows.row_stride; }
  const float* weight(int norm, int width) const { return r.norms[norm] == nullptr ? nullptr : r.norms[norm] + static_cast<std::size_t>(layer_) * width; }
  void found(Place place, float steps) { r.steps[(static_cast<std::size_t>(place) * r.layers + layer_) * r.count + row_] = steps; }

  void layer() {
    norm(weight(0, r.hidden), stream_.data(), normed_.data());
    found(kAttention, distance(at(r.qkv.inputs), normed_.data(), r.hidden));
    if (r.parallel) widened(r.norms[1] == nullptr ? normed_.data() : stream_.data());
    heads();
    add(at(r.output.outputs), weight(2, r.hidden));
    if (!r.parallel) widened(stream_.data());
    activated();
    add(at(r.down.outputs), weight(3, r.hidden));
  }

  // What the MLP's first product reads.
  void widened(const float* from) {
    norm(weight(1, r.hidden), from, beside_.data());
    found(kMlp, distance(at(r.gate_up.inputs), beside_.data(), r.hidden));
  }

  void activated() {
    const bfloat16* y = at(r.gate_up.outputs);
    const int width = r.down.inputs.width;
    for (int i = 0; i < width; i += 16) {
      const __m512 bent = bend(load_bf16(y + i));
      _mm512_storeu_ps(&wide_[i], r.gated ? _mm512_mul_ps(bent, load_bf16(y + width + i)) : bent);
    }
    found(kActivated, distance(at(r.down.inputs), wide_.data(), width));
  }

  __m512 bend(__m512 x) const {
    switch (r.activation) {
      case 1: return gelu_tanh(x);
      case 2: return gelu(x);
      case 3: {
        const __m512 positive = _mm512_max_ps(_mm512_setzero_ps(), x);  // in this order, what is no number stays none
        return _mm512_mul_ps(positive, positive);
      }
      default: return _mm512_mul_ps(x, sigmoid(x));
    }
  }

  void add(const bfloat16* y, const float* post_norm) {
    for (int i = 0; i < r.hidden; i += 16) _mm512_storeu_ps(&wide_[i], load_bf16(y + i));
    norm(post_norm, wide_.data(), wide_.data());
    const __m512 scale = _mm512_set1_ps(r.residual_scale);
    for (int i = 0; i < r.hidden; i += 16) _mm512_storeu_ps(&stream_[i], _mm512_fmadd_ps(_mm512_loadu_ps(&wide_[i]), scale, _mm512_loadu_ps(&stream_[i])));
  }

  void norm(const float* weight, const float* x, float* out) const {
    const int count = r.hidden;
    __m512 mean = _mm512_setzero_ps(), factor = _mm512_set1_ps(1.0f);
    if (weight != nullptr) {
      if (r.centred) {
        for (int i = 0; i < count; i += 16) mean = _mm512_add_ps(mean, _mm512_loadu_ps(x + i));
        mean = _mm512_set1_ps(_mm512_reduce_add_ps(mean) / count);
      }
      __m512 squares = _mm512_setzero_ps();
      for (int i = 0; i < count; i += 16) {
        const __m512 part = _mm512_sub_ps(_mm512_loadu_ps(x + i), mean);
        squares = _mm512_fmadd_ps(part, part, squares);
      }
      factor = _mm512_set1_ps(1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / count + r.epsilon));
    }
    for (int i = 0; i < count; i += 16) {
      const __m512 part = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + i), mean), factor);
      _mm512_storeu_ps(out + i, weight == nullptr ? part : _mm512_mul_ps(part, _mm512_loadu_ps(weight + i)));
    }
  }

  void heads() {
    const bfloat16* y = at(r.qkv.outputs);
    const int queries = r.heads * r.size, keys = r.key_heads * r.size;
    const std::size_t row = static_cast<std::size_t>(layer_) * r.count + row_;
    for (int i = 0; i < queries + keys; i += 16) _mm512_storeu_ps(&wide_[i], load_bf16(y + i));
    turn(wide_.data(), r.norms[4], r.heads);
    turn(wide_.data() + queries, r.norms[5], r.key_heads);
    found(kQueries, distance(r.queries + row * queries, wide_.data(), queries));
    found(kKeys, distance(r.keys + row * keys, wide_.data() + queries, keys));
    const bool copied = std::memcmp(r.values + row * keys, y + queries + keys, static_cast<std::size_t>(keys) * 2) == 0;
    found(kValues, copied ? 0.0f : std::numeric_limits<float>::infinity());
  }

  // Normalise and rotate heads in place.
  void turn(float* x, const float* norms, int heads) const {
    const int size = r.size, half = size / 2;
    const float* weight = norms == nullptr ? nullptr : norms + static_cast<std::size_t>(layer_) * (r.whole_norms ? heads * size : size);
    if (weight != nullptr && r.whole_norms) scale(x, weight, heads * size);
    const std::size_t angles = (static_cast<std::size_t>(layer_) * r.count + row_) * half;
    for (int head = 0; head < heads; ++head, x += size) {
      if (weight != nullptr && !r.whole_norms) scale(x, weight, size);
      for (int i = 0; i < half; i += 16) {
        const __m512 a = _mm512_loadu_ps(x + i), b = _mm512_loadu_ps(x + half + i);
        const __m512 c = _mm512_loadu_ps(r.cosines + angles + i), s = _mm512_loadu_ps(r.sines + angles + i);
        _mm512_storeu_ps(x + i, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
        _mm512_storeu_ps(x + half + i, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
      }
    }
  }

  void scale(float* x, const float* weight, int count) const {
    __m512 squares = _mm512_setzero_ps();
    for (int i = 0; i < count; i += 16) squares = _mm512_fmadd_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(x + i), squares);
    const __m512 factor = _mm512_set1_ps(1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / count + r.epsilon));
    for (int i = 0; i < count; i += 16) _mm512_storeu_ps(x + i, _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), factor), _mm512_loadu_ps(weight + i)));
  }

  // The largest |told - right| / max(|right|, 2^-6 of the row's root mean square), in steps of 2^-8.
  static float distance(const bfloat16* told, const float* right, int count) {
    __m512 squares = _mm512_setzero_ps();
    for (int i = 0; i < count; i += 16) squares = _mm512_fmadd_ps(_mm512_loadu_ps(right + i), _mm512_loadu_ps(right + i), squares);
    const __m512 floor = _mm512_set1_ps(0x1p-6f * std::sqrt(_mm512_reduce_add_ps(squares) / count) + 1e-30f);
    __m512 largest = _mm512_setzero_ps();
    __mmask16 wrong = 0;
    for (int i = 0; i < count; i += 16) {
      const __m512 value = _mm512_loadu_ps(right + i);
      const __m512 apart = _mm512_abs_ps(_mm512_sub_ps(load_bf16(told + i), value));
      const __m512 ratio = _mm512_div_ps(apart, _mm512_max_ps(_mm512_abs_ps(value), floor));
      wrong |= _mm512_cmp_ps_mask(ratio, ratio, _CMP_UNORD_Q);
      largest = _mm512_max_ps(largest, ratio);
    }
    return wrong ? std::numeric_limits<float>::infinity() : _mm512_reduce_max_ps(largest) * 256.0f;
  }

  const Replay r;
  std::vector<float> stream_, normed_, beside_, wide_;
  int layer_ = 0, row_ = 0;
};

}  // namespace sottovoce
