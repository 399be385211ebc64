// One id from each row of logits: temperature, top-k, top-p, min-p, draw. T's side; it shares no memory with a device.
//
// A row is read two or three times and sorted only around where its nucleus ends and where the draw falls. What is drawn is what
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

constexpr std::size_t kSorted = 32;  // candidates that are put in order rather than divided further

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

  static bool likelier(const Candidate& a, const Candidate& b) { return a.weight != b.weight ? a.weight > b.weight : a.id < b.id; }

  std::int64_t from_candidates(const Draw& wish, double total) {
    if (wish.top_k > 0) {
      keep(wish.top_k);
      total = mass(0, candidates_.size());
    }
    if (wish.min_p > 0) {
      const float least = wish.min_p;  // the best has weight 1
      candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(), [least](const Candidate& each) { return each.weight < least; }), candidates_.end());
    }
    // An id stays while the mass before it is below top_p; the first always stays.
    if (wish.top_p < 1) {
      const Place end = pass(wish.top_p * total);
      keep(std::max<std::size_t>(1, end.index + (end.before < wish.top_p * total)));
    }
    const Place drawn = pass(wish.uniform * mass(0, candidates_.size()));
    return candidates_[std::min(drawn.index, candidates_.size() - 1)].id;
  }

  // Drop all but the `count` likeliest.
  void keep(std::size_t count) {
    if (count >= candidates_.size()) return;
    std::nth_element(candidates_.begin(), candidates_.begin() + count, candidates_.end(), likelier);
    candidates_.resize(count);
  }

  double mass(std::size_t first, std::size_t last) const {
    double sum = 0;
    for (std::size_t i = first; i < last; ++i) sum += candidates_[i].weight;
    return sum;
  }

  struct Place {
    std::size_t index;
    double before;  // mass of all likelier ones
  };

  // Where the running mass passes `target`, likeliest first. Halves that are not it are not sorted.
  Place pass(double target) {
    std::size_t first = 0, last = candidates_.size();
    double before = 0;
    while (last - first > kSorted) {
      const std::size_t middle = first + (last - first) / 2;
      std::nth_element(candidates_.begin() + first, candidates_.begin() + middle, candidates_.begin() + last, likelier);
      const double half = mass(first, middle);
      if (before + half > target) {
        last = middle;
      } else {
        before += half;
        first = middle;
      }
    }
    std::sort(candidates_.begin() + first, candidates_.begin() + last, likelier);
    while (first < last && before + candidates_[first].weight <= target) before += candidates_[first++].weight;
    return {first, before};
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
