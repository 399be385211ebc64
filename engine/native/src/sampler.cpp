// One id from each row of logits: temperature, top-k, top-p, min-p, draw. T's side; it shares no memory with a device.
//
// A row is read two or three times and sorted only as far as its nucleus reaches. What is drawn is what
// engine/sampler.py defines, with weights of float32 added up in float64.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "exponential.h"
#include "threads.h"

using namespace sottovoce;

extern "C" {

struct Draw {
  float temperature;  // 0: the most likely id
  float top_p;        // 1: all
  float min_p;        // 0: all
  std::int32_t top_k; // 0: all
  double uniform;     // in [0, 1)
};

}  // extern "C"

namespace {

constexpr int kBlock = 512;        // logits whose weights are added up together
constexpr float kFirstReach = 8;   // natural logarithms below the best that are looked at first

struct Candidate {
  float weight;
  std::int32_t id;
};

class Drawer {
 public:
  // Returns the id, or -1 where nothing can be drawn.
  std::int64_t draw(const float* logits, int count, const Draw& wish) {
    best_ = best(logits, count);
    if (best_ < 0) return -1;
    if (wish.temperature == 0 || wish.top_k == 1) return best_;
    inverse_ = 1.0f / wish.temperature;
    const bool truncated = wish.top_k > 0 || wish.top_p < 1 || wish.min_p > 0;
    return truncated ? from_nucleus(logits, count, wish) : from_all(logits, count, wish.uniform);
  }

  void clear() {
    std::fill(sums_.begin(), sums_.end(), 0.0);
    std::memset(static_cast<void*>(candidates_.data()), 0, candidates_.capacity() * sizeof(Candidate));
    asm volatile("" : : "r"(candidates_.data()) : "memory");
    candidates_.clear();
    best_ = 0;
    top_ = 0;
  }

 private:
  // The first of the largest logits; -1 for a NaN, an infinity, or nothing but minus infinity.
  std::int64_t best(const float* logits, int count) {
    __m512 largest = _mm512_set1_ps(-INFINITY);
    __mmask16 unordered = 0;
    for (int i = 0; i < count; i += 16) {
      const __m512 part = load(logits, i, count);
      unordered |= _mm512_cmp_ps_mask(part, part, _CMP_UNORD_Q);
      largest = _mm512_max_ps(largest, part);
    }
    top_ = _mm512_reduce_max_ps(largest);
    if (unordered || !std::isfinite(top_)) return -1;
    for (int i = 0;; i += 16) {
      const __mmask16 equal = _mm512_cmp_ps_mask(load(logits, i, count), _mm512_set1_ps(top_), _CMP_EQ_OQ);
      if (equal) return i + __builtin_ctz(equal);
    }
  }

  static __m512 load(const float* logits, int i, int count) {
    const __mmask16 there = count - i >= 16 ? 0xffff : (1u << (count - i)) - 1;
    return _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), there, logits + i);
  }

  __m512 weight(const float* logits, int i, int count) const {
    return exponential(_mm512_mul_ps(_mm512_sub_ps(load(logits, i, count), _mm512_set1_ps(top_)), _mm512_set1_ps(inverse_)));
  }

  // Weights of each block, added up; returns the sum of all.
  double add_up(const float* logits, int count) {
    sums_.assign((count + kBlock - 1) / kBlock, 0.0);
    double total = 0;
    for (std::size_t block = 0; block < sums_.size(); ++block) {
      __m512 sum = _mm512_setzero_ps();
      const int end = std::min<int>(count, (block + 1) * kBlock);
      for (int i = block * kBlock; i < end; i += 16) sum = _mm512_add_ps(sum, weight(logits, i, count));
      total += sums_[block] = _mm512_reduce_add_ps(sum);
    }
    return total;
  }

  // The id at which the running sum passes the share `uniform` of the whole, in the order of ids.
  std::int64_t from_all(const float* logits, int count, double uniform) {
    double left = uniform * add_up(logits, count);
    std::size_t block = 0;
    while (block + 1 < sums_.size() && left >= sums_[block]) left -= sums_[block++];
    std::int64_t last = best_;
    for (int i = block * kBlock; i < count; i += 16) {
      alignas(64) float weights[16];
      _mm512_store_ps(weights, weight(logits, i, count));
      for (int lane = 0; lane < std::min(16, count - i); ++lane) {
        if (weights[lane] == 0) continue;
        last = i + lane;
        if (left < weights[lane]) return last;
        left -= weights[lane];
      }
    }
    return last;  // rounding put the target behind the last weight
  }

  // All ids within `reach` of the best, most likely first.
  void gather(const float* logits, int count, float reach) {
    candidates_.clear();
    const __m512 least = _mm512_set1_ps(top_ - reach / inverse_);
    for (int i = 0; i < count; i += 16) {
      const __m512 part = load(logits, i, count);
      const __mmask16 near = _mm512_cmp_ps_mask(part, least, _CMP_GE_OQ);
      if (!near) continue;
      alignas(64) float weights[16];
      _mm512_store_ps(weights, weight(logits, i, count));
      for (unsigned left = near; left; left &= left - 1) {
        const int lane = __builtin_ctz(left);
        if (weights[lane] > 0) candidates_.push_back({weights[lane], i + lane});
      }
    }
  }

  std::int64_t from_nucleus(const float* logits, int count, const Draw& wish) {
    // Without top-k, top-p is a share of the whole distribution; with it, of the k.
    const double total = wish.top_k == 0 && wish.top_p < 1 ? add_up(logits, count) : 0;
    for (float reach = kFirstReach;; reach *= 4) {
      gather(logits, count, reach);
      const bool all = reach > 100;  // below exp(-87) weights are zero
      if (all || enough(wish, total, reach)) return from_candidates(wish, total);
    }
  }

  // Whether no id beyond `reach` can survive the truncation.
  bool enough(const Draw& wish, double total, float reach) const {
    if (wish.top_k > 0) return candidates_.size() >= static_cast<std::size_t>(wish.top_k);
    if (wish.min_p > 0 && std::exp(-reach) < wish.min_p * 0.99f) return true;
    double mass = 0;
    for (const Candidate& candidate : candidates_) mass += candidate.weight;
    return wish.top_p < 1 && mass >= wish.top_p * total;
  }

  std::int64_t from_candidates(const Draw& wish, double total) {
    const auto likelier = [](const Candidate& a, const Candidate& b) { return a.weight != b.weight ? a.weight > b.weight : a.id < b.id; };
    if (wish.top_k > 0 && candidates_.size() > static_cast<std::size_t>(wish.top_k)) {
      std::nth_element(candidates_.begin(), candidates_.begin() + wish.top_k, candidates_.end(), likelier);
      candidates_.resize(wish.top_k);
    }
    std::sort(candidates_.begin(), candidates_.end(), likelier);
    if (wish.top_k > 0) {
      total = 0;
      for (const Candidate& candidate : candidates_) total += candidate.weight;
    }
    // An id stays while the mass before it is below top_p; the first always stays.
    double kept = candidates_[0].weight;
    std::size_t stay = 1;
    for (; stay < candidates_.size(); ++stay) {
      if (wish.top_p < 1 && kept >= wish.top_p * total) break;
      if (candidates_[stay].weight < wish.min_p * candidates_[0].weight) break;
      kept += candidates_[stay].weight;
    }
    double left = wish.uniform * kept;
    for (std::size_t i = 0; i + 1 < stay; ++i) {
      if (left < candidates_[i].weight) return candidates_[i].id;
      left -= candidates_[i].weight;
    }
    return candidates_[stay - 1].id;
  }

  std::vector<double> sums_;
  std::vector<Candidate> candidates_;
  std::int64_t best_ = 0;
  float top_ = 0, inverse_ = 1;
};

}  // namespace

class Sampler {
 public:
  explicit Sampler(int threads) : drawers_(threads), team_(threads) {}

  void sample(const float* logits, int rows, int vocabulary, const Draw* draws, std::int64_t* ids) {
    job_ = {logits, rows, vocabulary, draws, ids};
    counter_.reset();
    if (rows == 1) {
      work(0);
    } else {
      team_.run([](void* self, int member) { static_cast<Sampler*>(self)->work(member); }, this);
    }
    job_ = {};
  }

 private:
  struct Job {
    const float* logits;
    int rows, vocabulary;
    const Draw* draws;
    std::int64_t* ids;
  };

  void work(int member) {
    for (int row; (row = counter_.take(1)) < job_.rows;) {
      job_.ids[row] = drawers_[member].draw(job_.logits + static_cast<std::size_t>(row) * job_.vocabulary, job_.vocabulary, job_.draws[row]);
    }
    drawers_[member].clear();
  }

  Job job_{};
  Counter counter_;
  std::vector<Drawer> drawers_;
  Team team_;
};

extern "C" {

Sampler* sottovoce_sampler(int threads) { return new (std::nothrow) Sampler(threads); }
void sottovoce_sample(Sampler* sampler, const float* logits, int rows, int vocabulary, const Draw* draws, std::int64_t* ids) {
  sampler->sample(logits, rows, vocabulary, draws, ids);
}

}  // extern "C"
