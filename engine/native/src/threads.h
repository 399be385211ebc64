// A small team of threads that run one function together, with barriers between its phases.
//
// A decode step has some two hundred phases of a few microseconds each: waking sleeping threads for every
// one of them would cost more than the work. So the team spins between phases, and sleeps between steps.
#pragma once

#include <immintrin.h>
#include <linux/futex.h>
#include <sched.h>
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
    start();
    for (auto& thread : threads_) thread.join();
  }

  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  int size() const { return size_; }

  // Run work(context, member) on every member; returns when all have.
  void run(void (*work)(void*, int), void* context) {
    work_ = work;
    context_ = context;
    start();
    work(context, 0);
    barrier();
  }

  // Wait until every member is here. Who waits long sleeps: then another process has a member's core,
  // and that member can have the one that is left free.
  void barrier() {
    const int generation = generation_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      generation_.fetch_add(1, std::memory_order_seq_cst);
      if (sleepers_.load(std::memory_order_seq_cst) > 0) wake(generation_);
      return;
    }
    for (int spins = 0; spins < kSpins; ++spins) {
      if (generation_.load(std::memory_order_acquire) != generation) return;
      _mm_pause();
    }
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    while (generation_.load(std::memory_order_seq_cst) == generation) sleep(generation_, generation);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }

 private:
  static constexpr int kSpins = 4000;  // some 40 microseconds, at 27 cycles a pause
  static constexpr int kYields = 1000;  // between steps of a small model, half a millisecond; others come first

  static void sleep(std::atomic<int>& word, int value) { syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0); }
  void wake(std::atomic<int>& word) { syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, size_, nullptr, nullptr, 0); }

  void start() {
    if (size_ == 1) return;
    jobs_.fetch_add(1, std::memory_order_release);
    wake(jobs_);
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
    for (int spins = 0; spins < kSpins; ++spins) {
      if (jobs_.load(std::memory_order_acquire) != seen) return;
      _mm_pause();
    }
    for (int yields = 0; yields < kYields; ++yields) {
      if (jobs_.load(std::memory_order_acquire) != seen) return;
      sched_yield();
    }
    while (jobs_.load(std::memory_order_acquire) == seen) sleep(jobs_, seen);
  }

  const int size_;
  void (*work_)(void*, int) = nullptr;
  void* context_ = nullptr;
  std::atomic<int> jobs_{0};
  std::atomic<int> arrived_{0};
  std::atomic<int> generation_{0};
  std::atomic<int> sleepers_{0};
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
