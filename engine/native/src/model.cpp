// A decoder with rotary positions, computed step by step: the C interface that engine/native/library.py binds.
//
// Families differ in where they normalise, how their MLP is activated, and what they multiply by: members of Layer
// and Model say which. What is a matter of weights alone (biases of norms, partial or interleaved rotations, fused
// projections) is settled when they are packed (engine/native/model.py) and not known here.
//
// The step is one call: Python hands over the rows of all sequences, the team of threads walks through the layers
// with a barrier between phases, and logits come back. Activations between phases are bfloat16: what is multiplied,
// and what a product gave; the residual stream, which adds them up, is float32. So whoever checks a product sees
// exactly what was gone on with, and a step that is transcribed computes what it would compute anyhow.
#include <cmath>
#include <cstring>
#include <memory>
#include <new>

#include "activation.h"
#include "attention.h"
#include "linear.h"
#include "threads.h"
#include "tiles.h"

using namespace sottovoce;

extern "C" {

struct Layer {
  const float* attention_norm;       // [hidden] or null: norms before a part ...
  const float* mlp_norm;             // the same; null and `parallel`: the MLP reads what the attention reads
  const float* attention_post_norm;  // ... and after it, before it is added to the residual stream
  const float* mlp_post_norm;
  const float* query_norm;           // null, [head size], or [heads * size] when `whole_norms`
  const float* key_norm;
  Weights qkv;      // hidden -> (heads + 2 key heads) * size
  Weights output;   // heads * size -> hidden
  Weights gate_up;  // hidden -> 2 * intermediate, panels of 16 gates and their 16 ups; ungated: -> intermediate
  Weights down;     // intermediate -> hidden
  bfloat16* keys;               // pool, [slots][key heads][size]
  bfloat16* values;
  std::int32_t window;          // positions a row sees, itself included; 0 for all
  std::int32_t rotary;          // which table of frequencies positions are rotated by; -1 for none
};

enum Activation : std::int32_t { kSilu, kGeluTanh, kGelu, kSquaredRelu };

struct Model {
  const Layer* layers;
  const float* final_norm;  // [hidden]
  Weights head;             // hidden -> vocabulary
  const float* frequencies; // [tables][head size / 2], radians a position
  const float* rotary_scales; // [tables], of cosine and sine
  float epsilon;
  float scaling;            // of scores
  float score_cap;          // scores become cap * tanh(score / cap); 0 for none
  float logit_cap;
  float embedding_scale, residual_scale, logit_scale;
  std::int32_t activation;  // Activation
  std::int32_t gated;       // whether the MLP multiplies by an up projection
  std::int32_t centred;     // norms subtract the mean (LayerNorm), or do not (RMSNorm)
  std::int32_t parallel;    // attention and MLP both start from the layer's input
  std::int32_t whole_norms; // query and key norms run over all heads together
  std::int32_t tables;      // of rotary frequencies
  std::int32_t layer_count, hidden, heads, key_heads, size, intermediate, vocabulary, block_size, max_rows;
};

// What a step leaves for whoever checks it: [layers][rows rounded up to 16][...], in the order of the matrices that
// `Layer` lists. The inputs of `gate_up` are those of `qkv` where a parallel layer has one norm for both.
struct Transcript {
  bfloat16* products[4];   // outputs, gates before ups
  bfloat16* inputs[4];
  bfloat16* queries;       // [heads][size], normalised and rotated
  bfloat16* keys;          // [key heads][size], as they go into the pool
  bfloat16* values;
  bfloat16* final;         // [wanted rounded up to 16][hidden]: what the head multiplies
  float* scores;           // of the rows that `score_at` names: [layers][heads][position + 1], scaled, not capped
  const std::int64_t* score_at;  // [rows]: where in `scores`; -1: not wanted
};

// The rows of one step. Spans are consecutive positions of one sequence; span i has the rows
// [first_row[i], first_row[i + 1]) and the blocks [first_block[i], first_block[i + 1]) of `blocks`.
struct Step {
  bfloat16* embeddings;             // [rows][hidden]; zeroed when they have been read
  const std::int32_t* positions;    // [rows]
  const std::int64_t* slots;        // [rows]: where each row's key and value go
  const std::int32_t* first_row;    // [spans + 1]
  const std::int32_t* first_block;  // [spans + 1]
  const std::int64_t* blocks;       // block numbers of all sequences
  const std::int32_t* logit_rows;   // [wanted], ascending
  float* logits;                    // [wanted][vocabulary]; zeroed by sottovoce_clear
  const Transcript* told;           // or null
  std::int32_t rows, spans, wanted;
};

}  // extern "C"

namespace {

int rounded(int rows) { return (rows + kTile - 1) / kTile * kTile; }

// What a product gives, as it is gone on with.
__m512 bf16(__m512 values) { return widen(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values))); }

__m512 load(const float* from) { return _mm512_loadu_ps(from); }
__m512 load(const bfloat16* from) { return load_bf16(from); }

// The zeros are the point: no compiler may leave them out.
template <class T>
void zero(T* data, std::size_t count) {
  std::memset(data, 0, count * sizeof(T));
  asm volatile("" : : "r"(data) : "memory");
}

// Zeroed memory, aligned for tiles and given back in huge pages where there are any.
template <class T>
class Buffer {
 public:
  explicit Buffer(std::size_t count) : bytes_(count * sizeof(T)), data_(static_cast<T*>(::operator new(bytes_, std::align_val_t{64}))) { clear(); }
  ~Buffer() {
    clear();
    ::operator delete(data_, std::align_val_t{64});
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* get() const { return data_; }

  void clear() { clear(bytes_ / sizeof(T)); }

  // Zeros over the first `count` elements.
  void clear(std::size_t count) { zero(data_, count); }

 private:
  std::size_t bytes_;
  T* data_;
};

// Of one member, for few rows: what it normalised and quantised itself, and nobody waits for.
struct Own {
  static constexpr int kRows = 4;

  Own(int hidden, int widest) : normed(static_cast<std::size_t>(kRows) * hidden), quantised(static_cast<std::size_t>(kRows) * widest), scales(static_cast<std::size_t>(kTile) * widest / kGroup), sums(static_cast<std::size_t>(kTile) * widest / kGroup) {}

  void clear() {
    normed.clear();
    quantised.clear();
    scales.clear();
    sums.clear();
  }

  Buffer<bfloat16> normed;
  Buffer<std::int8_t> quantised;
  Buffer<float> scales;
  Buffer<std::int32_t> sums;
};

}  // namespace

struct Runner {
  Runner(const Model& m, int threads)
      : model(m),
        layers(m.layers, m.layers + m.layer_count),
        padded(rounded(m.max_rows)),
        widest(std::max({m.hidden, m.heads * m.size, m.intermediate})),
        wide(std::max((m.heads + 2 * m.key_heads) * m.size, m.hidden)),
        residual(static_cast<std::size_t>(padded) * m.hidden),
        normed(static_cast<std::size_t>(padded) * m.hidden),
        projected(static_cast<std::size_t>(padded) * wide),
        queries(static_cast<std::size_t>(padded) * m.heads * m.size),
        attended(static_cast<std::size_t>(padded) * m.heads * m.size),
        activated(static_cast<std::size_t>(padded) * m.intermediate),
        quantised(static_cast<std::size_t>(padded) * widest),
        scales(static_cast<std::size_t>(padded) * widest / kGroup),
        sums(static_cast<std::size_t>(padded) * widest / kGroup),
        cosines(static_cast<std::size_t>(padded) * m.tables * m.size / 2),
        sines(static_cast<std::size_t>(padded) * m.tables * m.size / 2),
        scratch(new Scratch[threads]),
        own(new std::unique_ptr<Own>[threads]),
        team(threads),
        counters(new Counter[3 * threads]) {
    model.layers = layers.data();
    for (int member = 0; member < threads; ++member) own[member] = std::make_unique<Own>(m.hidden, widest);
  }

  void run(const Step& next) {
    step = &next;
    step_rows = next.rows;
    step_wanted = next.wanted;
    step_logits = next.logits;
    for (int i = 0; i < 3 * team.size(); ++i) counters[i].reset();
    team.run([](void* self, int member) { static_cast<Runner*>(self)->work(member); }, this);
  }

  // Forget what the last step left here.
  void clear() {
    if (step == nullptr) return;
    const std::size_t rows = rounded(std::max(step_rows, step_wanted)), groups = widest / kGroup;
    residual.clear(rows * model.hidden);
    normed.clear(rows * model.hidden);
    projected.clear(rows * wide);
    queries.clear(rows * model.heads * model.size);
    attended.clear(rows * model.heads * model.size);
    activated.clear(rows * model.intermediate);
    quantised.clear(rows * widest);
    scales.clear(rows * groups);
    sums.clear(rows * groups);
    for (int member = 0; member < team.size(); ++member) {
      scratch[member].clear();
      own[member]->clear();
    }
    zero(step_logits, static_cast<std::size_t>(step_wanted) * model.vocabulary);
    step = nullptr;
  }

 private:
  // Where a layer's activations go: shared between layers, or kept in the transcript.
  struct Places {
    bfloat16 *attention_input, *qkv, *queries, *attended, *output, *mlp_input, *gate_up, *activated, *down;  // null: not kept
    bfloat16 *keys, *values;
    std::size_t index;
  };

  Places places(int layer) const {
    const Transcript* told = step->told;
    if (told == nullptr) {
      return {normed.get(), projected.get(), queries.get(), attended.get(), projected.get(), normed.get(), nullptr, activated.get(), projected.get(), nullptr, nullptr, 0};
    }
    const std::size_t first = static_cast<std::size_t>(layer) * rounded(step->rows);
    const int heads = model.heads * model.size, key_heads = model.key_heads * model.size;
    const int outputs[4] = {heads + 2 * key_heads, model.hidden, (1 + model.gated) * model.intermediate, model.hidden};
    const int inputs[4] = {model.hidden, heads, model.hidden, model.intermediate};
    bfloat16 *y[4], *x[4];
    for (int i = 0; i < 4; ++i) {
      y[i] = told->products[i] + first * outputs[i];
      x[i] = told->inputs[i] + first * inputs[i];
    }
    return {x[0], y[0], told->queries + first * heads, x[1], y[1], x[2], y[2], x[3], y[3], told->keys + first * key_heads, told->values + first * key_heads, static_cast<std::size_t>(layer)};
  }

  // Each phase draws its pieces from the counter of its turn; the counter two turns back is reset meanwhile.
  struct Turn {
    int member;
    int number = 0;
  };

  template <class Work>
  void phase(Turn& turn, int count, int piece, Work&& work) {
    Counter& counter = counters[turn.number % 3 * team.size()];
    for (int first; (first = counter.take(piece)) < count;) {
      for (int i = first; i < std::min(first + piece, count); ++i) work(i);
    }
    finish_turn(turn);
  }

  void finish_turn(Turn& turn) {
    team.barrier();
    counters[(turn.number + 2) % 3 * team.size() + turn.member].reset();
    ++turn.number;
  }

  // What every member needs and few rows make soon, each makes for itself: nobody waits, and no line of the cache
  // goes from one core to the other. Many rows are divided. The loops run over rows: work(row).
  template <class Work>
  void each_or_shared(Turn& turn, int count, int piece, Work&& work) {
    if (count > Own::kRows) return phase(turn, count, piece, work);
    for (int row = 0; row < count; ++row) work(row);
  }

  Rows quantised_rows(Turn& turn, const bfloat16* x, int depth, int count) {
    const bool alone = count <= Own::kRows;
    Own& mine = *own[turn.member];
    std::int8_t* values = alone ? mine.quantised.get() : quantised.get();
    float* of_groups = alone ? mine.scales.get() : scales.get();
    std::int32_t* added = alone ? mine.sums.get() : sums.get();
    each_or_shared(turn, count, 16, [&](int row) {
      const std::size_t at = static_cast<std::size_t>(row) * depth;
      quantise(x + at, depth, row, rounded(count), values + at, of_groups, added);
    });
    return {x, values, of_groups, added, count, rounded(count)};
  }

  // A phase in which each member has a share of its own and goes through it in order, as the memory likes it; who is
  // done helps the others. `blocks` times over: work(block, index).
  template <class Work>
  void shares(Turn& turn, int count, int blocks, Work&& work) {
    Counter* of_turn = counters.get() + static_cast<std::size_t>(turn.number % 3) * team.size();
    for (int i = 0; i < team.size(); ++i) {
      const int owner = (turn.member + i) % team.size();
      const int begin = count * owner / team.size(), own = count * (owner + 1) / team.size() - begin;
      for (int at; (at = of_turn[owner].take(1)) < own * blocks;) work(at / own, begin + at % own);
    }
    finish_turn(turn);
  }

  // All rows against all panels. Long inputs go block by block, so that a block stays in the cache.
  template <class Store>
  void linear(Turn& turn, const Weights& w, const bfloat16* x, int count, Store&& store) {
    const int stay = std::max(2 * kTile, (1 << 20) / (w.depth * 2) / kTile * kTile);
    const Rows rows = w.scales == nullptr ? Rows{x, nullptr, nullptr, nullptr, count, rounded(count)} : quantised_rows(turn, x, w.depth, count);
    shares(turn, w.panels, (count + stay - 1) / stay, [&](int block, int panel) {
      const int first = block * stay, last = std::min(first + stay, count);
      multiply(w, rows, first, last, panel, [&](int row, __m512 a, __m512 b) { store(row, panel, a, b); });
    });
  }

  // RMSNorm or LayerNorm of a row; store(index, 16 values). A null weight changes nothing.
  template <class Number, class Store>
  void norm(const float* weight, const Number* x, int count, Store&& store) const {
    if (weight == nullptr) {
      for (int i = 0; i < count; i += 16) store(i, load(x + i));
      return;
    }
    __m512 mean = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    if (model.centred) {
      for (int i = 0; i < count; i += 16) mean = _mm512_add_ps(mean, load(x + i));
      mean = _mm512_set1_ps(_mm512_reduce_add_ps(mean) / count);
    }
    for (int i = 0; i < count; i += 16) {
      const __m512 part = _mm512_sub_ps(load(x + i), mean);
      squares = _mm512_fmadd_ps(part, part, squares);
    }
    const __m512 factor = _mm512_set1_ps(1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / count + model.epsilon));
    for (int i = 0; i < count; i += 16) {
      store(i, _mm512_mul_ps(_mm512_mul_ps(_mm512_sub_ps(load(x + i), mean), factor), _mm512_loadu_ps(weight + i)));
    }
  }

  void norm_row(const float* weight, const float* x, bfloat16* out) const {
    norm(weight, x, model.hidden, [out](int i, __m512 values) { store_bf16(out + i, values); });
  }

  // Leave a product in `to`.
  static auto project(bfloat16* to, int width) {
    return [to, width](int row, int panel, __m512 a, __m512 b) {
      bfloat16* at = to + static_cast<std::size_t>(row) * width + panel * kPanel;
      store_bf16(at, a);
      store_bf16(at + kTile, b);
    };
  }

  // Add a product of `x` to the residual stream, normalised first where the layer says so; `y` takes it down.
  void add(Turn& turn, const Weights& w, const bfloat16* x, bfloat16* y, const float* post_norm) {
    const int hidden = model.hidden;
    const __m512 scale = _mm512_set1_ps(model.residual_scale);
    if (post_norm == nullptr) {
      const bool keep = step->told != nullptr;
      const auto store = project(y, hidden);
      linear(turn, w, x, step->rows, [&](int row, int panel, __m512 a, __m512 b) {
        float* at = residual.get() + static_cast<std::size_t>(row) * hidden + panel * kPanel;
        _mm512_storeu_ps(at, _mm512_fmadd_ps(bf16(a), scale, _mm512_loadu_ps(at)));
        _mm512_storeu_ps(at + kTile, _mm512_fmadd_ps(bf16(b), scale, _mm512_loadu_ps(at + kTile)));
        if (keep) store(row, panel, a, b);
      });
      return;
    }
    linear(turn, w, x, step->rows, project(y, hidden));
    phase(turn, step->rows, 4, [&](int row) {
      const std::size_t from = static_cast<std::size_t>(row) * hidden;
      norm(post_norm, y + from, hidden, [&](int i, __m512 values) {
        float* at = residual.get() + from + i;
        _mm512_storeu_ps(at, _mm512_fmadd_ps(values, scale, _mm512_loadu_ps(at)));
      });
    });
  }

  void work(int member) {
    const Tiles tiles;
    Turn turn{member};
    phase(turn, step->rows, 1, [&](int row) { begin(row); });
    for (int layer = 0; layer < model.layer_count; ++layer) run_layer(turn, model.layers[layer], places(layer));
    finish(turn);
  }

  // A row's place in the residual stream, and its rotations.
  void begin(int row) {
    const int half = model.size / 2;
    const std::size_t at = static_cast<std::size_t>(row) * model.hidden;
    const __m512 scale = _mm512_set1_ps(model.embedding_scale);
    for (int i = 0; i < model.hidden; i += 16) _mm512_storeu_ps(residual.get() + at + i, _mm512_mul_ps(load_bf16(step->embeddings + at + i), scale));
    zero(step->embeddings + at, model.hidden);
    const float position = static_cast<float>(step->positions[row]);
    const std::size_t first = static_cast<std::size_t>(row) * model.tables * half;
    for (int i = 0; i < model.tables * half; ++i) {
      const float angle = position * model.frequencies[i];
      cosines.get()[first + i] = std::cos(angle) * model.rotary_scales[i / half];
      sines.get()[first + i] = std::sin(angle) * model.rotary_scales[i / half];
    }
  }

  void run_layer(Turn& turn, const Layer& layer, const Places& at) {
    const int width = (model.heads + 2 * model.key_heads) * model.size;
    const bfloat16* input = normalise(turn, layer.attention_norm, at.attention_input);
    linear(turn, layer.qkv, input, step->rows, project(at.qkv, width));
    if (!places_as_it_attends()) phase(turn, step->rows, 1, [&](int row) { place(layer, at, row, 0, model.key_heads); });
    if (model.parallel) widen_mlp(turn, layer, at, input);
    attend_all(turn, layer, at, scratch[turn.member]);
    add(turn, layer.output, at.attended, at.output, layer.attention_post_norm);
    if (!model.parallel) widen_mlp(turn, layer, at, input);
    add(turn, layer.down, at.activated, at.down, layer.mlp_post_norm);
  }

  // The first half of the MLP, from the residual stream (or what the attention read) to its activated rows.
  void widen_mlp(Turn& turn, const Layer& layer, const Places& at, const bfloat16* input) {
    const bool shared = model.parallel && layer.mlp_norm == nullptr;
    if (!shared) input = normalise(turn, layer.mlp_norm, at.mlp_input);
    linear(turn, layer.gate_up, input, step->rows, [&](int row, int panel, __m512 a, __m512 b) {
      a = bf16(a);
      b = bf16(b);
      if (at.gate_up != nullptr) keep_widened(at.gate_up, row, panel, a, b);
      bfloat16* to = at.activated + static_cast<std::size_t>(row) * model.intermediate;
      if (model.gated) {
        store_bf16(to + panel * kTile, _mm512_mul_ps(activate(a), b));
      } else {
        store_bf16(to + panel * kPanel, activate(a));
        store_bf16(to + panel * kPanel + kTile, activate(b));
      }
    });
  }

  // Take down a panel of gates and ups, each with its own kind.
  void keep_widened(bfloat16* to, int row, int panel, __m512 a, __m512 b) const {
    to += static_cast<std::size_t>(row) * model.intermediate * (1 + model.gated) + panel * (model.gated ? kTile : kPanel);
    store_bf16(to, a);
    store_bf16(to + (model.gated ? model.intermediate : kTile), b);
  }

  __m512 activate(__m512 x) const {
    switch (model.activation) {
      case kGeluTanh: return gelu_tanh(x);
      case kGelu: return gelu(x);
      case kSquaredRelu: {
        const __m512 positive = _mm512_max_ps(x, _mm512_setzero_ps());
        return _mm512_mul_ps(positive, positive);
      }
      default: return _mm512_mul_ps(x, sigmoid(x));
    }
  }

  // Normalise rows of the residual stream, into `to` where it is kept; returns where this member finds them.
  const bfloat16* normalise(Turn& turn, const float* weight, bfloat16* to) {
    return normalise_rows(turn, weight, step->rows, to, [](int row) { return row; });
  }

  template <class RowOf>
  const bfloat16* normalise_rows(Turn& turn, const float* weight, int count, bfloat16* to, RowOf&& row_of) {
    const bool alone = count <= Own::kRows;
    bfloat16* out = alone ? own[turn.member]->normed.get() : to;
    const std::size_t hidden = model.hidden;
    each_or_shared(turn, count, 4, [&](int index) { norm_row(weight, residual.get() + row_of(index) * hidden, out + index * hidden); });
    if (alone && step->told != nullptr && turn.member == 0) std::copy_n(out, count * hidden, to);
    return out;
  }

  // Normalise and rotate heads [begin, end) of queries or keys of one row.
  void turn_heads(const Layer& layer, const bfloat16* from, const float* weight, int heads, int begin, int end, int row, bfloat16* to) const {
    const bool whole = weight != nullptr && model.whole_norms;
    float factor = whole ? inverse_length(from, heads * model.size) : 1.0f;
    for (int at = begin * model.size; at < end * model.size; at += model.size) {
      if (weight != nullptr && !whole) factor = inverse_length(from + at, model.size);
      turn_head(layer, from + at, whole ? weight + at : weight, factor, row, to + at);
    }
  }

  float inverse_length(const bfloat16* from, int count) const {
    __m512 squares = _mm512_setzero_ps();
    for (int i = 0; i < count; i += 16) squares = _mm512_fmadd_ps(load(from + i), load(from + i), squares);
    return 1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / count + model.epsilon);
  }

  void turn_head(const Layer& layer, const bfloat16* from, const float* weight, float factor, int row, bfloat16* to) const {
    const int half = model.size / 2;
    alignas(64) float head[kMaxHead];
    for (int i = 0; i < model.size; i += 16) {
      const __m512 part = load(from + i);
      _mm512_store_ps(head + i, weight != nullptr ? _mm512_mul_ps(_mm512_mul_ps(part, _mm512_set1_ps(factor)), load(weight + i)) : part);
    }
    const bool rotary = layer.rotary >= 0;
    const std::size_t table = (static_cast<std::size_t>(row) * model.tables + (rotary ? layer.rotary : 0)) * half;
    const float* cosine = cosines.get() + table;
    const float* sine = sines.get() + table;
    for (int i = 0; i < half; i += 16) {
      const __m512 a = _mm512_load_ps(head + i), b = _mm512_loadu_ps(head + half + i);
      const __m512 c = rotary ? _mm512_loadu_ps(cosine + i) : _mm512_set1_ps(1.0f), s = rotary ? _mm512_loadu_ps(sine + i) : _mm512_setzero_ps();
      store_bf16(to + i, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
      store_bf16(to + half + i, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
    }
  }

  // For key heads [begin, end) and the heads that share them: a row's queries to their buffer, its keys and values
  // into the pool.
  void place(const Layer& layer, const Places& at, int row, int begin, int end) {
    const int size = model.size, width = (model.heads + 2 * model.key_heads) * size, all = model.key_heads * size;
    const int shared = model.heads / model.key_heads, count = (end - begin) * size, first = begin * size;
    const bfloat16* from = at.qkv + static_cast<std::size_t>(row) * width;
    turn_heads(layer, from, layer.query_norm, model.heads, begin * shared, end * shared, row, at.queries + static_cast<std::size_t>(row) * model.heads * size);
    from += model.heads * size;
    const std::size_t slot = static_cast<std::size_t>(step->slots[row]) * all;
    turn_heads(layer, from, layer.key_norm, model.key_heads, begin, end, row, layer.keys + slot);
    std::copy_n(from + all + first, count, layer.values + slot + first);
    if (at.keys == nullptr) return;
    const std::size_t told = static_cast<std::size_t>(row) * all + first;
    std::copy_n(layer.keys + slot + first, count, at.keys + told);
    std::copy_n(layer.values + slot + first, count, at.values + told);
  }

  int parts() const { return (model.heads / model.key_heads + kTile - 1) / kTile; }

  // Where each span is one row, a key head attends to nothing that another has to place first.
  bool places_as_it_attends() const { return step->rows == step->spans && parts() == 1; }

  // A task is a tile of 16 queries of one span and one key head; tasks are numbered span by span.
  void attend_all(Turn& turn, const Layer& layer, const Places& at, Scratch& mine) {
    const int shared = model.heads / model.key_heads, positions = std::max(1, kTile / shared);
    const int parts = this->parts();
    const bool placing = places_as_it_attends();
    int tasks = 0;
    for (int span = 0; span < step->spans; ++span) tasks += tiles_of(span, positions) * parts * model.key_heads;
    phase(turn, tasks, 1, [&](int task) {
      int span = 0;
      for (int own; task >= (own = tiles_of(span, positions) * parts * model.key_heads); ++span) task -= own;
      const int head = task % model.key_heads, tile = task / model.key_heads;
      if (placing) place(layer, at, span, head, head + 1);
      attend_tile(layer, at, span, head, tile / parts * positions, positions, tile % parts * kTile, mine);
    });
  }

  int tiles_of(int span, int positions) const { return (step->first_row[span + 1] - step->first_row[span] + positions - 1) / positions; }

  void attend_tile(const Layer& layer, const Places& places, int span, int head, int first, int positions, int first_shared, Scratch& mine) {
    const int shared = model.heads / model.key_heads, rows = step->first_row[span + 1] - step->first_row[span];
    const int count = std::min(positions, rows - first), of_tile = std::min(shared - first_shared, kTile);
    Queries tile{};
    tile.scaling = model.scaling;
    tile.cap = model.score_cap;
    const int earliest = step->positions[step->first_row[span]] + first;
    for (int i = 0; i < kTile; ++i) {
      const int position = earliest + std::min(i / of_tile, count - 1);
      tile.from[i] = layer.window > 0 ? std::max(0, position - layer.window + 1) : 0;
      tile.upto[i] = position + 1;
      if (i / of_tile >= count) continue;
      const int row = step->first_row[span] + first + i / of_tile, query_head = head * shared + first_shared + i % of_tile;
      const std::size_t at = (static_cast<std::size_t>(row) * model.heads + query_head) * model.size;
      tile.rows[i] = places.queries + at;
      tile.out[i] = places.attended + at;
      tile.scores[i] = scores_of(places, row, query_head, position + 1);
      tile.told = tile.told || tile.scores[i] != nullptr;
    }
    const Cache cache{layer.keys, layer.values, step->blocks + step->first_block[span], model.block_size, model.key_heads, model.size};
    attend(cache, head, tile, tile.from[0], earliest + count, mine);
  }

  // Where the scores of one head of a row are taken down, if they are.
  float* scores_of(const Places& at, int row, int head, int context) const {
    if (step->told == nullptr || step->told->score_at[row] < 0) return nullptr;
    return step->told->scores + step->told->score_at[row] + (at.index * model.heads + head) * context;
  }

  void finish(Turn& turn) {
    if (step->wanted == 0) return;
    bfloat16* final = step->told == nullptr ? normed.get() : step->told->final;
    const bfloat16* input = normalise_rows(turn, model.final_norm, step->wanted, final, [&](int index) { return step->logit_rows[index]; });
    linear(turn, model.head, input, step->wanted, [&](int row, int panel, __m512 a, __m512 b) {
      const int left = model.vocabulary - panel * kPanel;
      float* at = step->logits + static_cast<std::size_t>(row) * model.vocabulary + panel * kPanel;
      _mm512_mask_storeu_ps(at, left >= 16 ? 0xffff : (1u << left) - 1, finished(a));
      if (left > 16) _mm512_mask_storeu_ps(at + kTile, left >= 32 ? 0xffff : (1u << (left - 16)) - 1, finished(b));
    });
  }

  __m512 finished(__m512 logits) const {
    logits = _mm512_mul_ps(logits, _mm512_set1_ps(model.logit_scale));
    return model.logit_cap > 0 ? capped(logits, model.logit_cap) : logits;
  }

  Model model;
  std::vector<Layer> layers;
  int padded, widest, wide;  // rows, and the widest input and output of a product
  Buffer<float> residual;
  Buffer<bfloat16> normed;
  Buffer<bfloat16> projected;
  Buffer<bfloat16> queries, attended, activated;
  Buffer<std::int8_t> quantised;
  Buffer<float> scales;
  Buffer<std::int32_t> sums;
  Buffer<float> cosines, sines;
  std::unique_ptr<Scratch[]> scratch;
  std::unique_ptr<std::unique_ptr<Own>[]> own;
  const Step* step = nullptr;
  int step_rows = 0, step_wanted = 0;
  float* step_logits = nullptr;
  Team team;
  std::unique_ptr<Counter[]> counters;  // [turn % 3][member]
};

extern "C" {

// Whether this processor has what the library was built for, and the kernel lends it.
int sottovoce_supported() {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("amx-bf16") && __builtin_cpu_supports("amx-int8") && request_tiles();
}

Runner* sottovoce_create(const Model* model, int threads) { return new (std::nothrow) Runner(*model, threads); }
void sottovoce_step(Runner* runner, const Step* step) { runner->run(*step); }
void sottovoce_clear(Runner* runner) { runner->clear(); }
void sottovoce_destroy(Runner* runner) { delete runner; }

}  // extern "C"
