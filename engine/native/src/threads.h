// A small team of threads that run one function together, with barriers between its phases.
//
// A decode step has some two hundred phases of a few microseconds each: waking sleeping threads for every
// one of them would cost more than the work. So the team spins between phases, and sleeps between steps.
#pragma once

#include <immintrin.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

namespace sottovoce {

class Team {
 public:
  explicit Team(int size) : size_(size) {
    for (int member = 1; member < size; ++member) threads_.emplace_back([this, member] { serve(member); });
  }

  ~Team() {
    stopping_ = true;
    wake();
    for (auto& thread : threads_) thread.join();
  }

  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return size_; }

  // Run work(context, member) on every member; returns when all have.
  void run(void (*work)(void*, int), void* context) {
    work_ = work;
    context_ = context;
    wake();
    work(context, 0);
    barrier();
  }

  // Wait until every member is here.
  void barrier() {
    const int generation = generation_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      generation_.fetch_add(1, std::memory_order_release);
      return;
    }
    for (int spins = 0; generation_.load(std::memory_order_acquire) == generation; ++spins) {
      if (spins < kSpins) {
        _mm_pause();
      } else {
        sched_yield();  // somebody else has our partner's core
      }
    }
  }

 private:
  static constexpr int kSpins = 20000;

  void wake() {
    if (size_ == 1) return;
    jobs_.fetch_add(1, std::memory_order_release);
    syscall(SYS_futex, &jobs_, FUTEX_WAKE_PRIVATE, size_, nullptr, nullptr, 0);
  }

  void serve(int member) {
    for (int seen = 0;;) {
      await(seen);
      ++seen;
      if (stopping_) return;
      work_(context_, member);
      barrier();
    }
  }

  void await(int seen) {
    for (int spins = 0; jobs_.load(std::memory_order_acquire) == seen; ++spins) {
      if (spins < kSpins) {
        _mm_pause();
      } else {
        syscall(SYS_futex, &jobs_, FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
      }
    }
  }

  const int size_;
  void (*work_)(void*, int) = nullptr;
  void* context_ = nullptr;
  std::atomic<int> jobs_{0};
  std::atomic<int> arrived_{0};
  std::atomic<int> generation_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> threads_;
};

// Hands out the numbers 0 .. count - 1 in pieces, to whichever member asks first.
class Counter {
 public:
  void reset() { next_.store(0, std::memory_order_relaxed); }
  int take(int piece) { return next_.fetch_add(piece, std::memory_order_relaxed); }

 private:
  alignas(64) std::atomic<int> next_{0};
};

}  // namespace sottovoce
