// Aligned memory in large pages where the system has them, and threads that step together.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace ct2flow {

// Zeroed values that start on a page; a vector of registers before and after them may be read.
template <class T>
class Memory {
 public:
  Memory() = default;
  explicit Memory(size_t count) {
    const size_t page = size_t(1) << 21;
    const size_t bytes = (count * sizeof(T) + 2 * kMargin + page - 1) / page * page;
    base_ = static_cast<char*>(std::aligned_alloc(page, bytes));
    if (!base_) throw std::bad_alloc();
#if defined(__linux__)
    madvise(base_, bytes, MADV_HUGEPAGE);  // fewer address translations; failing does no harm
#endif
    std::memset(base_, 0, bytes);
  }
  Memory(const Memory&) = delete;
  Memory(Memory&& other) noexcept : base_(std::exchange(other.base_, nullptr)) {}
  Memory& operator=(Memory&& other) noexcept {
    std::swap(base_, other.base_);
    return *this;
  }
  ~Memory() { std::free(base_); }
  void swap(Memory& other) { std::swap(base_, other.base_); }
  T* data() const { return base_ ? reinterpret_cast<T*>(base_ + kMargin) : nullptr; }

 private:
  static constexpr size_t kMargin = 4096;
  char* base_ = nullptr;
};

// Flush subnormal numbers to zero while it lives: the quiet air ahead of a wave is full of them, and
// they cost a hundred times a normal number.
class FlushSubnormals {
 public:
#if defined(__SSE2__)
  FlushSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040u); }
  ~FlushSubnormals() { _mm_setcsr(before_); }

 private:
  unsigned before_;
#elif defined(__aarch64__)
  FlushSubnormals() {
    asm volatile("mrs %0, fpcr" : "=r"(before_));
    asm volatile("msr fpcr, %0" ::"r"(before_ | (uint64_t(1) << 24)));
  }
  ~FlushSubnormals() { asm volatile("msr fpcr, %0" ::"r"(before_)); }

 private:
  uint64_t before_;
#endif
};

// Lets threads wait for one another; they spin briefly and then give the processor away.
class Barrier {
 public:
  explicit Barrier(int threads) : threads_(threads) {}
  void wait() {
    if (threads_ == 1) return;
    const int round = round_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == threads_ - 1) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
      return;
    }
    for (int spins = 0; round_.load(std::memory_order_acquire) == round; ++spins)
      if (spins > 4000) std::this_thread::yield();
  }

 private:
  int threads_;
  std::atomic<int> arrived_{0}, round_{0};
};

// Run body(thread) on some threads and wait for all.
template <class Body>
void run_threads(int threads, Body body) {
  std::vector<std::thread> others;
  others.reserve(size_t(threads));
  const auto quiet = [&](int thread) {
    FlushSubnormals flush;
    body(thread);
  };
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(quiet, thread);
  quiet(0);
  for (auto& other : others) other.join();
}

}  // namespace ct2flow
