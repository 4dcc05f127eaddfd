// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
// The words in which `hadalc --emit=cuda` writes kernels: those of kernels.h,
// for threads that have the lanes of a vector among them. For nvcc 12 or later
// with -fmad=false, sm_80 and newer; and for what emulates CUDA.
//
// A work item is taken by a group of 16 threads, half a warp. Thread t of it
// has lane t of 16 lanes, lanes [n t, n (t + 1)) of 16 n, and lane t modulo n
// of n lanes, n < 16. Numbers that are no vectors are the same in all threads
// of a group, and so is the way that it takes through a kernel. What a thread
// stores, all of its group see. Operations are those of kernels.h, in the same
// order, so that numbers are the same.
//
// Where tensor cores multiply, a warp takes an item (`warp_tiles`), or a block
// of 256 threads does (`products`), whose groups share what follows.

#ifndef HADAL_RT_KERNELS_CUH
#define HADAL_RT_KERNELS_CUH

#include "hadal_rt/abi.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <type_traits>

#ifndef __CUDACC__
// As -fmad=false for nvcc: a product and a sum round twice.
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#else
#pragma GCC optimize("fp-contract=off")
#endif
#endif

#define HADAL_INLINE __device__ __forceinline__

#ifdef __CUDACC__
#define HADAL_UNROLL _Pragma("unroll")
#else
#define HADAL_UNROLL
#endif

#ifdef __CUDACC__
/// Of a block; its size is that of the launch.
extern __shared__ __align__(128) uint8_t hadal_cuda_shared[];
#endif

namespace hadal_cuda {

typedef uint16_t bf16; ///< The upper half of an f32.
typedef uint16_t f16;  ///< IEEE 754 binary16.

//===----------------------------------------------------------------------===//
// Threads
//===----------------------------------------------------------------------===//

/// Threads of a group.
constexpr int group_lanes = 16;

HADAL_INLINE int lane_index() { return int(threadIdx.x) % group_lanes; }

/// Threads of a block that takes an item together.
constexpr int team_threads = 256;

/// Threads that go one way through a kernel.
HADAL_INLINE int group_threads() {
  return blockDim.x == 2 * group_lanes ? 2 * group_lanes : group_lanes;
}
/// Threads that take an item.
HADAL_INLINE int item_threads() {
  return blockDim.x == team_threads ? team_threads : group_threads();
}
/// Items that a block takes at once; which of those of all blocks this is.
HADAL_INLINE int64_t block_items() { return blockDim.x / item_threads(); }
HADAL_INLINE int64_t item_index() {
  return blockIdx.x * block_items() + threadIdx.x / item_threads();
}

/// The lanes of its warp that are a group.
HADAL_INLINE unsigned group_mask() {
  return group_threads() == 32
             ? 0xffffffffu
             : 0xffffu << (threadIdx.x & unsigned(group_lanes));
}

/// Waits for all threads of the group; they see what each has stored.
HADAL_INLINE void sync() { __syncwarp(group_mask()); }

/// The \p value that thread \p from of the group has.
template <typename T> HADAL_INLINE T from_lane(T value, int from) {
  if constexpr (sizeof(T) < 4) {
    return T(__shfl_sync(group_mask(), int(value), from, group_lanes));
  } else if constexpr (std::is_same<T, int64_t>::value) {
    return T(__shfl_sync(group_mask(), (long long)(value), from, group_lanes));
  } else {
    return __shfl_sync(group_mask(), value, from, group_lanes);
  }
}

/// Work items of a group: an equal share, the first ones to the first group.
HADAL_INLINE int64_t share_begin(int64_t items, int64_t ahead) {
  int64_t groups = gridDim.x * block_items();
  int64_t group = item_index() + ahead;
  if (items <= groups)
    return group < items ? group : items;
  int64_t share = (items + groups - 1) / groups;
  return share * group < items ? share * group : items;
}
HADAL_INLINE int64_t first_item(int64_t items) { return share_begin(items, 0); }
HADAL_INLINE int64_t last_item(int64_t items) { return share_begin(items, 1); }

//===----------------------------------------------------------------------===//
// Vectors
//===----------------------------------------------------------------------===//

/// Integers as they wrap around, others as they are.
template <typename T, bool = std::is_integral<T>::value> struct wrapping {
  typedef T type;
};
template <typename T> struct wrapping<T, true> {
  typedef
      typename std::conditional<sizeof(T) == 8, uint64_t, uint32_t>::type type;
};

/// \p count lanes, those of a group.
template <typename T, int count> struct vector {
  /// Lanes that a thread has.
  static constexpr int own = count > group_lanes ? count / group_lanes : 1;
  typedef T element;
  typedef vector<int32_t, count> mask;

  T e[own];

  HADAL_INLINE vector() {
    for (int i = 0; i < own; ++i)
      e[i] = T(0);
  }
  /// Each lane is the argument in its place.
  template <typename... Lanes,
            typename = std::enable_if_t<sizeof...(Lanes) == count>>
  HADAL_INLINE explicit vector(Lanes... lanes) {
    const T all[] = {T(lanes)...};
    for (int i = 0; i < own; ++i)
      e[i] = all[index(i)];
  }

  /// The lane that is \p i of this thread.
  static HADAL_INLINE int index(int i) {
    return count < group_lanes ? lane_index() % count : lane_index() * own + i;
  }
  /// Lane \p i, for all threads.
  HADAL_INLINE T operator[](int i) const {
    return from_lane(e[i % own], i / own);
  }

  template <typename F> static HADAL_INLINE vector map(vector a, F f) {
    for (int i = 0; i < own; ++i)
      a.e[i] = T(f(a.e[i]));
    return a;
  }
  template <typename F>
  static HADAL_INLINE vector map(vector a, vector b, F f) {
    for (int i = 0; i < own; ++i)
      a.e[i] = T(f(a.e[i], b.e[i]));
    return a;
  }
  template <typename F>
  static HADAL_INLINE mask compare(vector a, vector b, F f) {
    mask result;
    for (int i = 0; i < own; ++i)
      result.e[i] = -int32_t(f(a.e[i], b.e[i]));
    return result;
  }
  static HADAL_INLINE vector splat(T value) {
    vector result;
    for (int i = 0; i < own; ++i)
      result.e[i] = value;
    return result;
  }

  typedef typename wrapping<T>::type W;
#define HADAL_OPERATOR(sign, function, result, expression)                     \
  friend HADAL_INLINE result operator sign(vector a, vector b) {               \
    return function(a, b, [](T x, T y) { return expression; });                \
  }                                                                            \
  friend HADAL_INLINE result operator sign(vector a, T b) {                    \
    return a sign splat(b);                                                    \
  }                                                                            \
  friend HADAL_INLINE result operator sign(T a, vector b) {                    \
    return splat(a) sign b;                                                    \
  }
  HADAL_OPERATOR(+, map, vector, T(W(x) + W(y)))
  HADAL_OPERATOR(-, map, vector, T(W(x) - W(y)))
  HADAL_OPERATOR(*, map, vector, T(W(x) * W(y)))
  HADAL_OPERATOR(/, map, vector, x / y)
  HADAL_OPERATOR(&, map, vector, x &y)
  HADAL_OPERATOR(|, map, vector, x | y)
  HADAL_OPERATOR(^, map, vector, x ^ y)
  HADAL_OPERATOR(<<, map, vector, T(W(x) << y))
  HADAL_OPERATOR(>>, map, vector, x >> y)
  HADAL_OPERATOR(&&, map, vector, x &y)
  HADAL_OPERATOR(||, map, vector, x | y)
  HADAL_OPERATOR(==, compare, mask, x == y)
  HADAL_OPERATOR(!=, compare, mask, x != y)
  HADAL_OPERATOR(<, compare, mask, x < y)
  HADAL_OPERATOR(<=, compare, mask, x <= y)
  HADAL_OPERATOR(>, compare, mask, x > y)
  HADAL_OPERATOR(>=, compare, mask, x >= y)
#undef HADAL_OPERATOR
  friend HADAL_INLINE vector operator-(vector a) {
    return map(a, [](T x) { return T(-W(x)); });
  }
};

#define HADAL_VECTORS(name, type)                                              \
  typedef vector<type, 1> name##x1;                                            \
  typedef vector<type, 2> name##x2;                                            \
  typedef vector<type, 4> name##x4;                                            \
  typedef vector<type, 8> name##x8;                                            \
  typedef vector<type, 16> name##x16;                                          \
  typedef vector<type, 32> name##x32;                                          \
  typedef vector<type, 64> name##x64;
HADAL_VECTORS(f32, float)
HADAL_VECTORS(bf16, uint16_t)
HADAL_VECTORS(f16, uint16_t)
HADAL_VECTORS(i64, int64_t)
HADAL_VECTORS(i32, int32_t)
HADAL_VECTORS(i16, int16_t)
HADAL_VECTORS(i8, int8_t)
#undef HADAL_VECTORS

template <typename V> struct lanes_of;
template <typename T, int count> struct lanes_of<vector<T, count>> {
  static constexpr int value = count;
};
template <typename V> constexpr int lanes = lanes_of<V>::value;
template <typename V> using lane = typename V::element;

//===----------------------------------------------------------------------===//
// Memory
//===----------------------------------------------------------------------===//

/// Bytes that one instruction loads or stores.
template <int bytes> struct chunk;
template <> struct chunk<1> {
  typedef uint8_t type;
};
template <> struct chunk<2> {
  typedef uint16_t type;
};
template <> struct chunk<4> {
  typedef uint32_t type;
};
template <> struct chunk<8> {
  typedef uint64_t type;
};
template <> struct chunk<16> {
  struct alignas(16) type {
    uint32_t words[4];
  };
};

template <typename V> HADAL_INLINE V load(const void *from) {
  typedef lane<V> T;
  constexpr int bytes = V::own * int(sizeof(T));
  const T *mine = static_cast<const T *>(from) + V::index(0);
  V value;
  if constexpr (V::own == 1) {
    value.e[0] = *mine;
  } else {
    typedef typename chunk<(bytes < 16 ? bytes : 16)>::type Chunk;
    constexpr int chunks = bytes / int(sizeof(Chunk));
    if (uintptr_t(mine) % sizeof(Chunk) == 0) {
      Chunk all[chunks];
      for (int i = 0; i < chunks; ++i)
        all[i] = reinterpret_cast<const Chunk *>(mine)[i];
      memcpy(value.e, all, bytes);
    } else {
      for (int i = 0; i < V::own; ++i)
        value.e[i] = mine[i];
    }
  }
  return value;
}

/// All threads have read what was there before, and see what is there now.
template <typename T, int count>
HADAL_INLINE void store(void *to, vector<T, count> value) {
  typedef vector<T, count> V;
  constexpr int bytes = V::own * int(sizeof(T));
  T *mine = static_cast<T *>(to) + V::index(0);
  sync();
  if constexpr (V::own == 1) {
    if (lane_index() < count)
      *mine = value.e[0];
  } else {
    typedef typename chunk<(bytes < 16 ? bytes : 16)>::type Chunk;
    constexpr int chunks = bytes / int(sizeof(Chunk));
    if (uintptr_t(mine) % sizeof(Chunk) == 0) {
      Chunk all[chunks];
      memcpy(all, value.e, bytes);
      for (int i = 0; i < chunks; ++i)
        reinterpret_cast<Chunk *>(mine)[i] = all[i];
    } else {
      for (int i = 0; i < V::own; ++i)
        mine[i] = value.e[i];
    }
  }
  sync();
}

/// The first \p many lanes, at most all.
template <typename T, int count>
HADAL_INLINE void store_first(T *to, vector<T, count> value, int64_t many) {
  typedef vector<T, count> V;
  sync();
  for (int i = 0; i < V::own; ++i)
    if (V::index(i) < many && lane_index() < count)
      to[V::index(i)] = value.e[i];
  sync();
}

/// Stores a number.
template <typename T>
HADAL_INLINE void put(T *to, std::common_type_t<T> value) {
  sync();
  if (lane_index() == 0)
    *to = value;
  sync();
}

/// Page \p index of a sequence; in it, what is \p offset bytes after the start
/// of what \p layer keeps.
template <typename T>
HADAL_INLINE T *page(const hadal_rt_step_t *step, int64_t sequence,
                     int64_t index, int64_t layer, int64_t page_bytes,
                     int64_t layer_bytes, int64_t offset) {
  int64_t number = step->page_table[sequence * step->page_table_stride + index];
  return reinterpret_cast<T *>(step->kv + number * page_bytes +
                               layer * layer_bytes + offset);
}

/// What those that take an item have of shared memory: \p bytes.
HADAL_INLINE uint8_t *shared_scratch(int64_t bytes) {
  return hadal_cuda_shared + threadIdx.x / item_threads() * bytes;
}

/// What they have of the arena behind the plan of memory, which takes
/// \p per_token bytes for each token and \p fixed ones besides.
HADAL_INLINE uint8_t *arena_scratch(const hadal_rt_step_t *step,
                                    int64_t per_token, int64_t fixed,
                                    int64_t bytes) {
  return step->arena + per_token * step->tokens + fixed + item_index() * bytes;
}

//===----------------------------------------------------------------------===//
// Memory that is read ahead
//===----------------------------------------------------------------------===//

#ifdef __CUDACC__
/// Starts to copy 16 bytes to shared memory.
HADAL_INLINE void copy_async(void *to, const void *from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(
                   unsigned(__cvta_generic_to_shared(to))),
               "l"(from)
               : "memory");
}
/// Ends a set of copies.
HADAL_INLINE void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
/// Waits for this thread's copies, but those of the latest \p sets.
template <int sets> HADAL_INLINE void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(sets) : "memory");
}
#endif

/// \p tiles stretches of as many bytes, which are read side by side from front
/// to back, in shared memory by the time that they are: of each, a piece or two
/// that are read and those that come next. One load at a time would wait for
/// memory each time; so all that fits is under way. What is read in another
/// order is right, too, and slow.
template <int tiles> struct stream {
  static_assert(tiles <= 8, "expects room for four pieces of each");
  static constexpr int pieces = tiles <= 2 ? 16 : tiles <= 4 ? 8 : 4;
  static constexpr int piece = 1024, ahead = pieces - 2;

  uint8_t *ring; ///< [tiles, pieces, piece]
  const uint8_t *from[tiles];
  int bytes;
  int oldest = 0, ready = -(1 << 30); ///< [oldest, ready) are there.

  template <typename... From>
  HADAL_INLINE stream(uint8_t *ring, int64_t bytes, const From *...from)
      : ring(ring), from{reinterpret_cast<const uint8_t *>(from)...},
        bytes(int(bytes)) {}

  HADAL_INLINE uint8_t *place(int tile, int at) const {
    return ring + (tile * pieces + at / piece % pieces) * piece + at % piece;
  }
  HADAL_INLINE void fetch(int begin) {
    int first = int(threadIdx.x) % group_threads() * 16;
    for (int tile = 0; tile < tiles; ++tile)
      for (int at = begin + first; at < begin + piece;
           at += group_threads() * 16)
        if (at < bytes)
          copy_async(place(tile, at), from[tile] + at);
    commit_copies();
  }
  HADAL_INLINE void restart(int begin) {
    wait_copies<0>();
    sync();
    oldest = ready = begin / piece * piece;
    for (int i = 0; i < ahead; ++i)
      fetch(ready + i * piece);
  }
  HADAL_INLINE void advance() {
    wait_copies<ahead - 1>();
    // All have their part of this piece, and have read the one before the last.
    sync();
    fetch(ready + ahead * piece);
    ready += piece;
    oldest = oldest > ready - 2 * piece ? oldest : ready - 2 * piece;
  }

  /// The lanes \p at bytes after the start of \p tile.
  template <typename V> HADAL_INLINE V load(int tile, int64_t offset) {
    int at = int(offset);
    if (at >= ready || at < oldest) {
      if (at >= ready + piece || at < oldest)
        restart(at);
      advance();
    }
    return hadal_cuda::load<V>(place(tile, at));
  }
};

//===----------------------------------------------------------------------===//
// Indices and integers
//===----------------------------------------------------------------------===//

/// What is read from memory as 32 bits, which are not signed.
HADAL_INLINE int64_t to_index(int32_t value) { return uint32_t(value); }

HADAL_INLINE int64_t udiv(int64_t a, int64_t b) {
  return int64_t(uint64_t(a) / uint64_t(b));
}
HADAL_INLINE int64_t urem(int64_t a, int64_t b) {
  return int64_t(uint64_t(a) % uint64_t(b));
}
HADAL_INLINE int64_t umin(int64_t a, int64_t b) {
  return uint64_t(a) < uint64_t(b) ? a : b;
}
HADAL_INLINE int64_t umax(int64_t a, int64_t b) {
  return uint64_t(a) < uint64_t(b) ? b : a;
}

//===----------------------------------------------------------------------===//
// Lanes
//===----------------------------------------------------------------------===//

template <typename V> HADAL_INLINE V splat(lane<V> value) {
  return V::splat(value);
}

/// \p a where the lane of \p condition is not 0, else \p b.
template <typename T, int count>
HADAL_INLINE vector<T, count> select(vector<int32_t, count> condition,
                                     vector<T, count> a, vector<T, count> b) {
  for (int i = 0; i < a.own; ++i)
    a.e[i] = condition.e[i] ? a.e[i] : b.e[i];
  return a;
}

/// Lane i of the result is lane from(i) of \p v.
template <typename R, typename V, typename F>
HADAL_INLINE R gather(V v, F from) {
  R result;
  for (int i = 0; i < R::own; ++i) {
    int source = from(R::index(i));
    for (int j = 0; j < V::own; ++j) {
      lane<V> value = from_lane(v.e[j], source / V::own);
      if (source % V::own == j)
        result.e[i] = value;
    }
  }
  return result;
}

/// The same of the lanes of \p a and then those of \p b.
template <typename R, typename V, typename F>
HADAL_INLINE R gather(V a, V b, F from) {
  constexpr int count = lanes<V>;
  R x = gather<R>(a, [&](int i) { return from(i) % count; });
  R y = gather<R>(b, [&](int i) { return from(i) % count; });
  for (int i = 0; i < R::own; ++i)
    if (from(R::index(i)) >= count)
      x.e[i] = y.e[i];
  return x;
}

/// The same bits, read as another type.
template <typename To, typename From>
HADAL_INLINE std::enable_if_t<std::is_arithmetic<To>::value, To>
bit_cast(From value) {
  static_assert(sizeof(To) == sizeof(From), "expects as many bits");
  To result;
  memcpy(&result, &value, sizeof(To));
  return result;
}
template <typename To, typename T, int count>
HADAL_INLINE std::enable_if_t<!std::is_arithmetic<To>::value, To>
bit_cast(vector<T, count> value) {
  typedef lane<To> R;
  static_assert(lanes<To> * sizeof(R) == count * sizeof(T),
                "expects as many bits");
  To result;
  if constexpr ((count >= group_lanes && lanes<To> >= group_lanes) ||
                lanes<To> == count) {
    memcpy(result.e, value.e, sizeof(value.e));
  } else {
    // The lanes of one are spread over other threads than those of the other.
    for (int i = 0; i < To::own; ++i) {
      uint8_t bytes[sizeof(R)];
      for (int byte = 0; byte < int(sizeof(R)); ++byte) {
        int at = To::index(i) * int(sizeof(R)) + byte;
        vector<T, count> one = gather<vector<T, count>>(
            value, [&](int) { return at / int(sizeof(T)); });
        uint8_t all[sizeof(T)];
        memcpy(all, one.e, sizeof(T));
        bytes[byte] = all[at % int(sizeof(T))];
      }
      memcpy(&result.e[i], bytes, sizeof(R));
    }
  }
  return result;
}

/// Each lane, converted: truncated toward zero, or to its lowest bits.
template <typename To, typename T, int count>
HADAL_INLINE To convert(vector<T, count> value) {
  static_assert(lanes<To> == count, "expects as many lanes");
  To result;
  for (int i = 0; i < To::own; ++i)
    result.e[i] = lane<To>(value.e[i]);
  return result;
}

/// The same with lanes that are not signed.
template <typename To, typename T, int count>
HADAL_INLINE To zero_extend(vector<T, count> value) {
  static_assert(lanes<To> == count, "expects as many lanes");
  To result;
  for (int i = 0; i < To::own; ++i)
    result.e[i] = lane<To>(std::make_unsigned_t<T>(value.e[i]));
  return result;
}

/// Each lane of \p value, which is not signed, shifted.
template <typename T, int count>
HADAL_INLINE vector<T, count> shift_right(vector<T, count> value,
                                          vector<T, count> bits) {
  typedef std::make_unsigned_t<T> U;
  return value.map(value, bits, [](T x, T y) { return T(U(x) >> y); });
}
HADAL_INLINE int32_t shift_right(int32_t value, int32_t bits) {
  return int32_t(uint32_t(value) >> bits);
}

/// a < b and a <= b of numbers, or of lanes, that are not signed.
template <typename T>
HADAL_INLINE std::enable_if_t<std::is_integral<T>::value, bool> uless(T a,
                                                                      T b) {
  return std::make_unsigned_t<T>(a) < std::make_unsigned_t<T>(b);
}
template <typename T>
HADAL_INLINE std::enable_if_t<std::is_integral<T>::value, bool>
uless_equal(T a, T b) {
  return std::make_unsigned_t<T>(a) <= std::make_unsigned_t<T>(b);
}
template <typename T, int count>
HADAL_INLINE vector<int32_t, count> uless(vector<T, count> a,
                                          vector<T, count> b) {
  return a.compare(a, b, [](T x, T y) { return uless(x, y); });
}
template <typename T, int count>
HADAL_INLINE vector<int32_t, count> uless_equal(vector<T, count> a,
                                                vector<T, count> b) {
  return a.compare(a, b, [](T x, T y) { return uless_equal(x, y); });
}

template <int... from, typename T, int count>
HADAL_INLINE auto shuffle(vector<T, count> a, vector<T, count> b) {
  return gather<vector<T, int(sizeof...(from))>>(a, b, [](int i) {
    const int8_t all[] = {from...};
    return int(all[i]);
  });
}
/// Lanes [begin, begin + some).
template <int begin, int some, typename T, int count>
HADAL_INLINE auto slice(vector<T, count> v) {
  return gather<vector<T, some>>(v, [](int i) { return begin + i; });
}
/// Every \p stride-th lane from \p begin on.
template <int stride, int begin, typename T, int count>
HADAL_INLINE auto every(vector<T, count> v) {
  return gather<vector<T, count / stride>>(
      v, [](int i) { return begin + stride * i; });
}
template <typename T, int count> HADAL_INLINE auto low(vector<T, count> v) {
  return slice<0, count / 2>(v);
}
template <typename T, int count> HADAL_INLINE auto high(vector<T, count> v) {
  return slice<count / 2, count / 2>(v);
}
/// The lanes of \p a, then those of \p b.
template <typename T, int count>
HADAL_INLINE auto join(vector<T, count> a, vector<T, count> b) {
  return gather<vector<T, 2 * count>>(a, b, [](int i) { return i; });
}
/// a[0], b[0], a[1], b[1], ..
template <typename T, int count>
HADAL_INLINE auto interleave(vector<T, count> a, vector<T, count> b) {
  return gather<vector<T, 2 * count>>(
      a, b, [](int i) { return i / 2 + i % 2 * count; });
}

template <typename T> HADAL_INLINE T min(T a, T b) { return b < a ? b : a; }
template <typename T> HADAL_INLINE T max(T a, T b) { return a < b ? b : a; }
template <typename T, int count>
HADAL_INLINE vector<T, count> min(vector<T, count> a, vector<T, count> b) {
  return a.map(a, b, [](T x, T y) { return y < x ? y : x; });
}
template <typename T, int count>
HADAL_INLINE vector<T, count> max(vector<T, count> a, vector<T, count> b) {
  return a.map(a, b, [](T x, T y) { return x < y ? y : x; });
}

/// Halves are combined until one lane is left.
template <typename T, int count, typename F>
HADAL_INLINE T reduce(vector<T, count> v, F f) {
  for (int distance = (count < group_lanes ? count : group_lanes) / 2;
       distance > 0; distance /= 2)
    for (int i = 0; i < v.own; ++i) {
      T other = from_lane(v.e[i], lane_index() ^ distance);
      // Both threads of a pair do the same in the same order.
      bool isFirst = (lane_index() & distance) == 0;
      v.e[i] = isFirst ? f(v.e[i], other) : f(other, v.e[i]);
    }
  for (int some = v.own / 2; some > 0; some /= 2)
    for (int i = 0; i < some; ++i)
      v.e[i] = f(v.e[i], v.e[i + some]);
  return v.e[0];
}
template <typename T, int count> HADAL_INLINE T sum_lanes(vector<T, count> v) {
  typedef typename wrapping<T>::type W;
  return reduce(v, [](T x, T y) { return T(W(x) + W(y)); });
}
template <typename T, int count> HADAL_INLINE T max_lane(vector<T, count> v) {
  return reduce(v, [](T x, T y) { return x < y ? y : x; });
}

//===----------------------------------------------------------------------===//
// Floating point
//===----------------------------------------------------------------------===//

/// a * b + c, rounded once.
HADAL_INLINE float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
HADAL_INLINE float sqrt(float a) { return ::sqrtf(a); }
HADAL_INLINE float abs(float a) { return ::fabsf(a); }
HADAL_INLINE float floor(float a) { return ::floorf(a); }
/// To the nearest integer, or the even one of two.
HADAL_INLINE float round_even(float a) { return ::rintf(a); }

template <int count>
HADAL_INLINE vector<float, count>
fma(vector<float, count> a, vector<float, count> b, vector<float, count> c) {
  for (int i = 0; i < a.own; ++i)
    a.e[i] = fma(a.e[i], b.e[i], c.e[i]);
  return a;
}
#define HADAL_FUNCTION(name)                                                   \
  template <int count>                                                         \
  HADAL_INLINE vector<float, count> name(vector<float, count> a) {             \
    return a.map(a, [](float x) { return name(x); });                          \
  }
HADAL_FUNCTION(sqrt)
HADAL_FUNCTION(abs)
HADAL_FUNCTION(floor)
HADAL_FUNCTION(round_even)

/// e^x to 2 units in the last place (docs/numerics.md).
HADAL_INLINE float exp(float x) {
  float clamped = max(x, -87.3f);
  clamped = 88.3f < clamped ? 88.3f : clamped;
  float n = floor(fma(clamped, 1.44269504088896341f, 0.5f));
  float r = fma(n, 2.12194440e-4f, fma(n, -0.693359375f, clamped));
  float p = 1.9875691500e-4f;
  for (float coefficient :
       {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f, 1.6666665459e-1f,
        5.0000001201e-1f})
    p = fma(p, r, coefficient);
  p = fma(p, r * r, r) + 1;
  float power = bit_cast<float>((int32_t(n) + 127) << 23);
  return x < -87.3f ? 0 : p * power;
}

/// 1 / (1 + e^-x).
HADAL_INLINE float sigmoid(float x) { return 1.0f / (exp(0.0f - x) + 1.0f); }

/// ln(1 + e^x), as `hadal_rt/kernels.h` has it.
HADAL_INLINE float softplus(float x) {
  float y = exp(0.0f - max(x, 0.0f - x));
  float s = y / (y + 2.0f);
  float t = s * s;
  float series = float(1.0 / 17);
  for (int n = 15; n > 0; n -= 2)
    series = fma(series, t, float(1.0 / n));
  return max(x, 0.0f) + s * 2.0f * series;
}
HADAL_FUNCTION(exp)
HADAL_FUNCTION(sigmoid)
HADAL_FUNCTION(softplus)
#undef HADAL_FUNCTION

//===----------------------------------------------------------------------===//
// 16-bit floating point
//===----------------------------------------------------------------------===//

HADAL_INLINE float widen_bf16(bf16 stored) {
  return bit_cast<float>(uint32_t(stored) << 16);
}

/// Rounds to nearest, ties to even.
HADAL_INLINE bf16 narrow_bf16(float value) {
  uint32_t bits = bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffff) > 0x7f800000)
    return bf16(bits >> 16 | 0x40);
  return bf16((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

HADAL_INLINE float widen_f16(f16 stored) {
  uint32_t bits = stored;
  // The exponent is 112 too small, also that of subnormal numbers.
  uint32_t magnitude = (bits & 0x7fff) << 13;
  uint32_t scaled = bit_cast<uint32_t>(bit_cast<float>(magnitude) * 0x1p112f);
  uint32_t result = (bits & 0x7c00) == 0x7c00 ? magnitude | 0x7f800000 : scaled;
  return bit_cast<float>(result | (bits & 0x8000) << 16);
}

/// Rounds to nearest, ties to even.
HADAL_INLINE f16 narrow_f16(float value) {
  uint32_t bits = bit_cast<uint32_t>(value);
  uint32_t magnitude = bits & 0x7fffffff;
  uint32_t normal =
      (magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13;
  // The sum with 1/2 rounds to the 24 bits after the point that there are.
  uint32_t small =
      bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000;
  uint32_t large = magnitude > 0x7f800000 ? 0x7e00 : 0x7c00;
  uint32_t result = magnitude < 0x38800000 ? small : normal;
  result = magnitude >= 0x47800000 ? large : result;
  return f16(result | (bits >> 16 & 0x8000));
}

#define HADAL_WIDEN(name)                                                      \
  template <int count>                                                         \
  HADAL_INLINE vector<float, count> name(vector<uint16_t, count> stored) {     \
    vector<float, count> result;                                               \
    for (int i = 0; i < result.own; ++i)                                       \
      result.e[i] = name(stored.e[i]);                                         \
    return result;                                                             \
  }
#define HADAL_NARROW(name)                                                     \
  template <int count>                                                         \
  HADAL_INLINE vector<uint16_t, count> name(vector<float, count> value) {      \
    vector<uint16_t, count> result;                                            \
    for (int i = 0; i < result.own; ++i)                                       \
      result.e[i] = name(value.e[i]);                                          \
    return result;                                                             \
  }
HADAL_WIDEN(widen_bf16)
HADAL_WIDEN(widen_f16)
HADAL_NARROW(narrow_bf16)
HADAL_NARROW(narrow_f16)
#undef HADAL_WIDEN
#undef HADAL_NARROW

//===----------------------------------------------------------------------===//
// Products of bytes
//===----------------------------------------------------------------------===//

/// Adds to each lane four products of signed bytes, exactly.
HADAL_INLINE i32x16 add_dot4(i32x16 sums, i8x64 weights, i8x64 inputs) {
  int a, b;
  memcpy(&a, weights.e, 4);
  memcpy(&b, inputs.e, 4);
  sums.e[0] = __dp4a(a, b, sums.e[0]);
  return sums;
}
/// The same with weights that are not negative.
HADAL_INLINE i32x16 add_dot4_nonnegative(i32x16 sums, i8x64 weights,
                                         i8x64 inputs) {
  return add_dot4(sums, weights, inputs);
}

/// The products alone.
HADAL_INLINE i32x16 dot4(i8x64 weights, i8x64 inputs) {
  return add_dot4(i32x16(), weights, inputs);
}
HADAL_INLINE i32x16 dot4_nonnegative(i8x64 weights, i8x64 inputs) {
  return add_dot4(i32x16(), weights, inputs);
}

//===----------------------------------------------------------------------===//
// Tiles of bytes
//===----------------------------------------------------------------------===//

#ifdef __CUDACC__
/// Adds to \p sums, 16 x 8, the product of \p a, 16 x 32 bytes, and of \p b,
/// 32 x 8, spread over a warp as PTX ISA has it for mma.m16n8k32.
HADAL_INLINE void multiply_bytes(int32_t (&sums)[4], const uint32_t (&a)[4],
                                 const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]),
                 "r"(b[1]));
}
#endif

/// Three tiles in the registers of a warp: weights of 16 outputs, [k / 4, 16,
/// 4] bytes, inputs of 16 rows, [16, k] bytes 64 apart, and the sums of their
/// products, [16 rows, 16 outputs], which are exact. k is 32 or 64.
///
/// Thread 4 g + c of the warp has columns 4 c to 4 c + 3 and 16 more of every
/// 32 of outputs g and g + 8 and of rows g and g + 8; of the sums, outputs g
/// and g + 8 of rows 2 c, 2 c + 1 and 8 more.
struct warp_tiles {
  int steps = 0; ///< k / 32
  uint32_t weights[2][4] = {}, inputs[2][2][2] = {};
  int32_t sums[2][4] = {};

  static HADAL_INLINE int g() { return int(threadIdx.x) % 32 / 4; }
  static HADAL_INLINE int c() { return int(threadIdx.x) % 4; }

  /// Takes k from \p shapes: byte 20 has that of a row of inputs.
  HADAL_INLINE void configure(int64_t shapes) {
    steps = reinterpret_cast<const uint8_t *>(shapes)[20] / 32;
  }
  HADAL_INLINE void zero() {
    for (auto &half : sums)
      for (int32_t &sum : half)
        sum = 0;
  }
  HADAL_INLINE void load_weights(int64_t address) {
    auto *words = reinterpret_cast<const uint32_t *>(address) + g();
    for (int i = 0; i < 2; ++i)
      if (i < steps)
        for (int part = 0; part < 4; ++part)
          weights[i][part] =
              words[(i * 8 + part / 2 * 4 + c()) * 16 + part % 2 * 8];
  }
  HADAL_INLINE void load_inputs(int64_t address) {
    auto *words = reinterpret_cast<const uint32_t *>(address) + c();
    for (int i = 0; i < 2; ++i)
      if (i < steps)
        for (int half = 0; half < 2; ++half)
          for (int part = 0; part < 2; ++part)
            inputs[i][half][part] =
                words[(half * 8 + g()) * 16 + i * 8 + part * 4];
  }
  HADAL_INLINE void multiply() {
    for (int i = 0; i < 2; ++i)
      if (i < steps)
        for (int half = 0; half < 2; ++half)
          multiply_bytes(sums[half], weights[i], inputs[i][half]);
  }
  HADAL_INLINE void store_sums(int64_t address) {
    auto *words = reinterpret_cast<int32_t *>(address);
    sync();
    for (int half = 0; half < 2; ++half)
      for (int part = 0; part < 4; ++part)
        words[(half * 8 + 2 * c() + part % 2) * 16 + part / 2 * 8 + g()] =
            sums[half][part];
    sync();
  }
};

//===----------------------------------------------------------------------===//
// Products of rows
//===----------------------------------------------------------------------===//

#ifdef __CUDACC__
/// Adds to \p sums, 16 x 8, the product of \p a, 16 x 16 numbers of bf16, and
/// of \p b, 16 x 8, spread over a warp as PTX ISA has it for mma.m16n8k16.
HADAL_INLINE void multiply_bf16(float (&sums)[4], const uint32_t (&a)[4],
                                const uint32_t (&b)[2]) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
               "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]),
                 "r"(b[1]));
}

/// Transposes squares of 8 x 8 numbers of 16 bits in shared memory, the rows of
/// square i at the addresses that lanes [8 i, 8 i + 8) give: lane 4 g + c gets
/// column g of rows 2 c and 2 c + 1, of each square.
HADAL_INLINE void load_transposed(uint32_t (&parts)[4], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 "
               "{%0, %1, %2, %3}, [%4];"
               : "=r"(parts[0]), "=r"(parts[1]), "=r"(parts[2]), "=r"(parts[3])
               : "r"(unsigned(__cvta_generic_to_shared(row)))
               : "memory");
}
HADAL_INLINE void load_transposed(uint32_t (&parts)[2], const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 "
               "{%0, %1}, [%2];"
               : "=r"(parts[0]), "=r"(parts[1])
               : "r"(unsigned(__cvta_generic_to_shared(row)))
               : "memory");
}

/// Both numbers, rounded to bf16, to nearest, ties to even.
HADAL_INLINE uint32_t round_pair(float first, float second) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}
#else
HADAL_INLINE uint32_t round_pair(float first, float second) {
  return narrow_bf16(first) | uint32_t(narrow_bf16(second)) << 16;
}
#endif

HADAL_INLINE float first_of(uint32_t pair) {
  return bit_cast<float>(pair << 16);
}
HADAL_INLINE float second_of(uint32_t pair) {
  return bit_cast<float>(pair & 0xffff0000);
}

/// Cuts two numbers into bf16 ones, the largest first: three of eight bits have
/// all of an f32.
template <int count>
HADAL_INLINE void split_pair(float first, float second,
                             uint32_t (&parts)[count]) {
  for (int i = 0; i < count; ++i) {
    parts[i] = round_pair(first, second);
    first -= first_of(parts[i]);
    second -= second_of(parts[i]);
  }
}

/// How weights are stored.
enum class stored { bf16, f16, fp8 };

/// 16 columns of a tile of 16 outputs as the left side of `multiply_bf16`: bf16
/// numbers whose sum is a weight, without the scale of FP8.
template <stored kind> struct tile_fragment {
  static constexpr int column_bytes = kind == stored::fp8 ? 16 : 32;
  static constexpr int parts = kind == stored::f16 ? 2 : 1;

  uint32_t part[parts][4];

  /// Where the 16 bytes of number \p piece of a tile, from an even number of
  /// columns on, are kept in shared memory: eight columns that are read at once
  /// are in different banks.
  static HADAL_INLINE int place(int piece) {
    return 16 * (kind == stored::fp8 ? piece : piece ^ (piece >> 3 & 1));
  }
  /// Which output of the tile row \p row of the products is.
  static HADAL_INLINE int output(int row) {
    return kind == stored::fp8 ? row % 8 * 2 + row / 8 : row;
  }

  /// Columns from \p column on, a multiple of 16, of those at \p columns.
  HADAL_INLINE void load(const uint8_t *columns, int column) {
    int lane = int(threadIdx.x) % 32;
    if constexpr (kind == stored::fp8) {
      // A square has pairs of outputs.
      uint32_t pairs[2];
      load_transposed(pairs, columns + (column + lane % 16) * 16);
      for (int i = 0; i < 4; ++i) {
        uint32_t bytes = pairs[i / 2] >> i % 2 * 8;
        part[0][i] = widen(bytes) | widen(bytes >> 16) << 16;
      }
    } else {
      int k = column + lane / 16 * 8 + lane % 8;
      load_transposed(part[0], columns + place(2 * k + lane / 8 % 2));
      if constexpr (kind == stored::f16)
        for (int i = 0; i < 4; ++i) {
          uint32_t both[2], pair = part[0][i];
          split_pair(widen_f16(f16(pair)), widen_f16(f16(pair >> 16)), both);
          part[0][i] = both[0];
          part[1][i] = both[1];
        }
    }
  }

private:
  /// The lowest byte, E4M3, as bf16: its exponent is 120 too small there.
  static HADAL_INLINE uint32_t widen(uint32_t byte) {
    uint32_t bits = (byte & 0x80) << 24 | (byte & 0x7f) << 20;
    return bit_cast<uint32_t>(bit_cast<float>(bits) * 0x1p120f) >> 16;
  }
};

/// Rows of f32 that are multiplied: of entry e, row e, or list[e] / per_row.
struct input_rows {
  const float *rows;
  int64_t stride; ///< Numbers from one row to the next.
  const int32_t *list = nullptr;
  int64_t per_row = 1;

  HADAL_INLINE const float *of(int64_t entry) const {
    return rows + (list ? list[entry] / per_row : entry) * stride;
  }
};

/// Tiles of a packed weight, [tiles, inner, 16], and for FP8 the scales of 128
/// x 128 of it, [outputs / 128, inner / 128].
struct weight_tiles {
  const void *tiles;
  const float *scales = nullptr;
};

/// Products of entries with tiles of a weight, or of a gate and an up, by all
/// threads of a block and its tensor cores: block by block of entries and
/// tiles, whose sums are then in shared memory for the groups of threads.
///
/// An f32 input is three bf16 numbers, and its product is three of `mma`, each
/// exact but for its sum; with one of \p input_parts it is rounded to bf16.
/// Sums of 128 columns begin at zero and are added in order, so that neither
/// the number of rows nor who computes which columns changes a bit: up to eight
/// rows, warps have columns of their own, since the weights should come from
/// memory as fast as they can; more rows share what has come.
template <stored kind, int weights, int inner, int input_parts = 3>
struct products {
  typedef tile_fragment<kind> fragment;
  static constexpr int tile_bytes = inner * fragment::column_bytes;
  static constexpr int warps = team_threads / 32;
  static constexpr int groups = team_threads / group_lanes;
  /// Columns whose sums begin at zero; blocks of FP8 are as wide.
  static constexpr int chunk = 128;
  static constexpr int chunks = (inner + chunk - 1) / chunk;
  /// Of a block: tiles of all weights, and entries.
  static constexpr int most_tiles = 8, most_entries = 64, few_entries = 8;
  /// Columns of a stage, and of its inputs in shared memory: those of eight
  /// rows that are read at once are in different banks.
  static constexpr int columns = 32, stages = 4;
  static constexpr int steps = (inner + columns - 1) / columns;
  static constexpr int row_pitch = columns + 8;
  static constexpr int tile_stage = columns * fragment::column_bytes;
  static constexpr int stage_bytes =
      most_tiles * tile_stage + most_entries * row_pitch * 4;
  /// For few entries, of a warp: two times 128 columns of a tile.
  static constexpr int unit_bytes = chunk * fragment::column_bytes;
  static constexpr int unit_sums = 16 * few_entries;
  static_assert(warps * 2 * (unit_bytes + unit_sums * 4) <= 72 * 1024 &&
                    stages * stage_bytes <= 72 * 1024,
                "a launch has 72 KiB");

  uint8_t *memory;
  int64_t entry, last_entry, begin_tile, end_tile, tile;
  input_rows input;
  weight_tiles weight[weights];
  int entries = 0, tiles = 0; ///< Of this block.

  /// Entries [entry, last_entry) with tiles [tile, end_tile).
  template <typename... Weights>
  HADAL_INLINE products(uint8_t *memory, int64_t entry, int64_t last_entry,
                        int64_t tile, int64_t end_tile, input_rows input,
                        Weights... all)
      : memory(memory), entry(entry), last_entry(last_entry), begin_tile(tile),
        end_tile(end_tile), tile(tile), input(input), weight{all...} {}

  /// Computes the next block; false if there is none.
  HADAL_INLINE bool next() {
    tile += tiles;
    if (tile >= end_tile) {
      tile = begin_tile;
      entry += entries;
      entries = 0;
    }
    if (entry >= last_entry || tile >= end_tile)
      return false;
    entries = int(min(last_entry - entry, int64_t(most_entries)));
    tiles = int(min(end_tile - tile, int64_t(most_tiles / weights)));
    __syncthreads(); // All have read the sums of the last block.
    if (entries <= few_entries)
      multiply_few();
    else
      multiply_many();
    __syncthreads();
    return true;
  }

  /// Products of the block, of which a group takes every `groups`th.
  HADAL_INLINE int first_product() const {
    return int(threadIdx.x) / group_lanes;
  }
  HADAL_INLINE int product_count() const { return tiles * entries; }
  HADAL_INLINE int64_t tile_of(int product) const {
    return tile + product / entries;
  }
  HADAL_INLINE int64_t entry_of(int product) const {
    return entry + product % entries;
  }
  /// Its sums with weight \p which.
  HADAL_INLINE f32x16 sums(int which, int product) const {
    return load<f32x16>(
        sums_of(which * tiles + product / entries, product % entries));
  }

private:
  /// Chains are the tiles of the first weight, then those of the second.
  HADAL_INLINE int chain_count() const { return weights * tiles; }
  HADAL_INLINE weight_tiles weight_of(int chain) const {
    return chain < tiles ? weight[0] : weight[weights - 1];
  }
  HADAL_INLINE int64_t tile_number(int chain) const {
    return tile + (chain < tiles ? chain : chain - tiles);
  }
  HADAL_INLINE const uint8_t *chain_tile(int chain) const {
    return static_cast<const uint8_t *>(weight_of(chain).tiles) +
           tile_number(chain) * tile_bytes;
  }
  HADAL_INLINE float *sums_of(int chain, int row) const {
    return reinterpret_cast<float *>(memory) +
           (chain * most_entries + row) * 16;
  }
  /// Adds the sum of the columns of \p number.
  HADAL_INLINE float add_chunk(float sum, float part, int chain,
                               int number) const {
    if constexpr (kind == stored::fp8) {
      int64_t block = tile_number(chain) / (chunk / 16);
      return fma(part, weight_of(chain).scales[block * chunks + number], sum);
    } else {
      return sum + part;
    }
  }

  /// Starts to copy 16 bytes, or writes zeros.
  static HADAL_INLINE void copy_or_zero(uint8_t *to, const uint8_t *from,
                                        bool is_there) {
    if (is_there)
      copy_async(to, from);
    else
      *reinterpret_cast<chunk_of_16 *>(to) = chunk_of_16{};
  }
  typedef typename hadal_cuda::chunk<16>::type chunk_of_16;

  /// Starts to copy \p count columns of a tile from \p column on, by threads
  /// of which this is number \p thread of \p threads.
  static HADAL_INLINE void copy_columns(uint8_t *to, const uint8_t *tile,
                                        int column, int count, int thread,
                                        int threads) {
    constexpr int pieces = fragment::column_bytes / 16;
    for (int i = thread; i < count * pieces; i += threads)
      copy_or_zero(to + fragment::place(i),
                   tile + column * fragment::column_bytes + i * 16,
                   column + i / pieces < inner);
  }

  /// Starts to copy four numbers of a row from \p column on.
  static HADAL_INLINE void copy_inputs(float *to, const float *row,
                                       int column) {
    if (column + 4 <= inner && uintptr_t(row + column) % 16 == 0)
      return copy_async(to, row + column);
    for (int i = 0; i < 4; ++i)
      to[i] = column + i < inner ? row[column + i] : 0;
  }

  /// Multiplies 16 columns of a tile with eight rows, of which this lane has
  /// columns 2 c, 2 c + 1 and the two that are 8 later of row g.
  static HADAL_INLINE void multiply(float (&sums)[4], const fragment &tile,
                                    const uint32_t (&low)[input_parts],
                                    const uint32_t (&high)[input_parts]) {
    for (int i = 0; i < input_parts; ++i)
      for (int part = 0; part < fragment::parts; ++part) {
        const uint32_t b[2] = {low[i], high[i]};
        multiply_bf16(sums, tile.part[part], b);
      }
  }

  HADAL_INLINE void store_sums(const float (&sums)[4], float *to) const {
    int g = int(threadIdx.x) % 32 / 4, c = int(threadIdx.x) % 4;
    for (int i = 0; i < 4; ++i)
      to[(2 * c + i % 2) * 16 + fragment::output(g + i / 2 * 8)] = sums[i];
  }

  //===--- Few entries ----------------------------------------------------===//

  /// Starts to copy what a warp multiplies in round \p round: 128 columns of a
  /// tile, all of which make a unit.
  HADAL_INLINE void fetch_unit(int round, int at_once) {
    int warp = int(threadIdx.x) / 32, chains = chain_count();
    int number = round * at_once + warp / chains;
    if (warp < at_once * chains && number < chunks) {
      int left = inner - number * chunk;
      int count = left < chunk ? (left + 15) / 16 * 16 : chunk;
      copy_columns(memory + (warp * 2 + round % 2) * unit_bytes,
                   chain_tile(warp % chains), number * chunk, count,
                   int(threadIdx.x) % 32, 32);
    }
    commit_copies();
  }

  HADAL_INLINE void multiply_few() {
    int warp = int(threadIdx.x) / 32;
    int g = int(threadIdx.x) % 32 / 4, c = int(threadIdx.x) % 4;
    int chains = chain_count(), at_once = warps / chains;
    int rounds = (chunks + at_once - 1) / at_once;
    auto *parts = reinterpret_cast<float *>(memory + warps * 2 * unit_bytes);
    const float *row = g < entries ? input.of(entry + g) : nullptr;
    auto pair = [&](int k, uint32_t (&split)[input_parts]) {
      split_pair(row && k < inner ? row[k] : 0,
                 row && k + 1 < inner ? row[k + 1] : 0, split);
    };
    // Sums of up to eight chains: those of a thread.
    constexpr int own = most_tiles * unit_sums / team_threads;
    float total[own] = {};
    fetch_unit(0, at_once);
    for (int round = 0; round < rounds; ++round) {
      fetch_unit(round + 1, at_once);
      wait_copies<1>();
      __syncwarp();
      float *results = parts + round % 2 * warps * unit_sums;
      int number = round * at_once + warp / chains;
      if (warp < at_once * chains && number < chunks) {
        const uint8_t *unit = memory + (warp * 2 + round % 2) * unit_bytes;
        float sums[4] = {};
        for (int k = 0; k < chunk && number * chunk + k < inner; k += 16) {
          fragment weights_of_step;
          weights_of_step.load(unit, k);
          uint32_t low[input_parts], high[input_parts];
          pair(number * chunk + k + 2 * c, low);
          pair(number * chunk + k + 2 * c + 8, high);
          multiply(sums, weights_of_step, low, high);
        }
        store_sums(sums, results + warp * unit_sums);
      }
      __syncthreads();
      for (int i = 0; i < own; ++i) {
        int at = int(threadIdx.x) + i * team_threads, chain = at / unit_sums;
        if (chain < chains)
          for (int j = 0; j < at_once && round * at_once + j < chunks; ++j)
            total[i] = add_chunk(
                total[i],
                results[(j * chains + chain) * unit_sums + at % unit_sums],
                chain, round * at_once + j);
      }
    }
    wait_copies<0>();
    for (int i = 0; i < own; ++i) {
      int at = int(threadIdx.x) + i * team_threads, chain = at / unit_sums;
      if (chain < chains)
        sums_of(chain, at % unit_sums / 16)[at % 16] = total[i];
    }
  }

  //===--- Many entries ---------------------------------------------------===//

  /// Starts to copy 32 columns of all tiles and rows.
  HADAL_INLINE void fetch_stage(int step, const float *const (&rows)[2]) {
    constexpr int tile_threads = team_threads / most_tiles;
    uint8_t *stage = memory + step % stages * stage_bytes;
    auto *inputs = reinterpret_cast<float *>(stage + most_tiles * tile_stage);
    int thread = int(threadIdx.x), column = step * columns;
    if (step < steps) {
      int chain = thread / tile_threads;
      if (chain < chain_count())
        copy_columns(stage + chain * tile_stage, chain_tile(chain), column,
                     columns, thread % tile_threads, tile_threads);
      for (int i = 0; i < 2; ++i)
        if (rows[i])
          copy_inputs(inputs + (thread / 8 + i * 32) * row_pitch +
                          thread % 8 * 4,
                      rows[i], column + thread % 8 * 4);
    }
    commit_copies();
  }

  /// Warps have every second tile of a block each, and 16 rows.
  HADAL_INLINE void multiply_many() {
    constexpr int own_tiles = most_tiles / 2;
    int warp = int(threadIdx.x) / 32;
    int g = int(threadIdx.x) % 32 / 4, c = int(threadIdx.x) % 4;
    int first_chain = warp % 2, first_row = warp / 2 * 16;
    const float *rows[2];
    for (int i = 0; i < 2; ++i) {
      int row = int(threadIdx.x) / 8 + i * 32;
      rows[i] = row < entries ? input.of(entry + row) : nullptr;
    }
    float total[own_tiles][2][4] = {}, part[own_tiles][2][4] = {};
    for (int step = 0; step < stages - 1; ++step)
      fetch_stage(step, rows);
    for (int step = 0; step < steps; ++step) {
      wait_copies<stages - 2>();
      __syncthreads();
      fetch_stage(step + stages - 1, rows);
      const uint8_t *stage = memory + step % stages * stage_bytes;
      auto *inputs =
          reinterpret_cast<const float *>(stage + most_tiles * tile_stage);
      if (first_row < entries) {
        HADAL_UNROLL
        for (int k = 0; k < columns; k += 16) {
          uint32_t low[2][input_parts], high[2][input_parts];
          HADAL_UNROLL
          for (int n = 0; n < 2; ++n) {
            const float *row =
                inputs + (first_row + n * 8 + g) * row_pitch + k + 2 * c;
            split_pair(row[0], row[1], low[n]);
            split_pair(row[8], row[9], high[n]);
          }
          HADAL_UNROLL
          for (int m = 0; m < own_tiles; ++m) {
            int chain = 2 * m + first_chain;
            if (chain < chain_count()) {
              fragment weights_of_step;
              weights_of_step.load(stage + chain * tile_stage, k);
              HADAL_UNROLL
              for (int n = 0; n < 2; ++n)
                multiply(part[m][n], weights_of_step, low[n], high[n]);
            }
          }
        }
        constexpr int steps_of_chunk = chunk / columns;
        bool is_last = step % steps_of_chunk == steps_of_chunk - 1;
        if (is_last || step + 1 == steps)
          HADAL_UNROLL
        for (int m = 0; m < own_tiles; ++m)
          if (2 * m + first_chain < chain_count())
            HADAL_UNROLL
        for (int i = 0; i < 8; ++i) {
          float &sum = total[m][i / 4][i % 4];
          sum = add_chunk(sum, part[m][i / 4][i % 4], 2 * m + first_chain,
                          step / steps_of_chunk);
          part[m][i / 4][i % 4] = 0;
        }
      }
    }
    wait_copies<0>();
    __syncthreads();
    for (int m = 0; m < own_tiles; ++m)
      for (int n = 0; n < 2; ++n)
        if (2 * m + first_chain < chain_count())
          store_sums(total[m][n],
                     sums_of(2 * m + first_chain, first_row + n * 8));
  }
};

//===----------------------------------------------------------------------===//
// Attention by blocks of threads
//===----------------------------------------------------------------------===//

/// How a cache keeps numbers.
enum class cached { f32, f16, bf16, int8 };

/// Where the tokens of a row are.
struct cache_pages {
  const hadal_rt_step_t *step;
  int64_t sequence, layer;
  const int32_t *selected; ///< Positions that the row sees; null: all.

  HADAL_INLINE int64_t position(int64_t token) const {
    return selected ? int64_t(selected[token]) : token;
  }
  /// What the layer keeps of the page with \p position.
  template <typename S> HADAL_INLINE const uint8_t *of(int64_t position) const {
    return page<const uint8_t>(step, sequence, position / S::page_tokens, layer,
                               S::page_bytes, S::layer_bytes, 0);
  }
};

/// How numbers of a cache are in shared memory, a stage of tokens at a time:
/// bf16 where that has all of them, else f32, which products cut into three.
template <typename S> struct stage_numbers {
  static constexpr bool has_heads = S::kv_heads != 0;
  /// Integers are cut off from their scales, if that is one of a whole token.
  static constexpr bool has_scales = has_heads && S::kind == cached::int8;
  static constexpr bool is_half =
      S::is_rounded || S::kind == cached::bf16 || has_scales;
  /// Whether those in shared memory are those of the cache.
  static constexpr bool is_copy =
      S::kind == cached::bf16 || (S::kind == cached::f32 && !S::is_rounded);
  static constexpr int parts = is_half ? 1 : 3;
  static constexpr int bytes = is_half ? 2 : 4;
  static constexpr int stored_bytes = S::kind == cached::f32    ? 4
                                      : S::kind == cached::int8 ? 1
                                                                : 2;
  static constexpr int tokens = is_half ? 32 : 16; ///< Of a stage.
  /// Numbers of 16 bytes. Rows of shared memory are as much longer than what
  /// they have, so that eight that are read at once are in different banks.
  static constexpr int piece = 16 / bytes;

  /// Number \p k of those at \p from, without a scale.
  static HADAL_INLINE float widen(const uint8_t *from, int64_t k) {
    if constexpr (S::kind == cached::f32)
      return reinterpret_cast<const float *>(from)[k];
    else if constexpr (S::kind == cached::f16)
      return widen_f16(reinterpret_cast<const f16 *>(from)[k]);
    else if constexpr (S::kind == cached::bf16)
      return widen_bf16(reinterpret_cast<const bf16 *>(from)[k]);
    else
      return float(reinterpret_cast<const int8_t *>(from)[k]);
  }

  /// Writes the 16 bytes of a whole piece of those at \p from.
  static HADAL_INLINE void widen_piece(uint8_t *to, const uint8_t *from) {
    struct alignas(stored_bytes * piece > 16 ? 16 : stored_bytes * piece) {
      uint8_t all[stored_bytes * piece];
    } stored;
    memcpy(&stored, __builtin_assume_aligned(from, alignof(decltype(stored))),
           sizeof(stored));
    write(to, [&](int i) { return widen(stored.all, i); });
  }

  /// Writes 16 bytes: `number(i)`, one after the other.
  template <typename F> static HADAL_INLINE void write(uint8_t *to, F number) {
    float values[piece];
    for (int i = 0; i < piece; ++i)
      values[i] = number(i);
    if constexpr (is_half) {
      for (int i = 0; i < piece; i += 2) {
        uint32_t pair = round_pair(values[i], values[i + 1]);
        memcpy(to + i * 2, &pair, 4);
      }
    } else {
      memcpy(to, values, 16);
    }
  }

  /// Columns [column, column + 8) of 16 rows from \p row on, as the right side
  /// of `multiply_bf16`, whose rows they are.
  static HADAL_INLINE void load_rows(uint32_t (&to)[parts][2],
                                     const uint8_t *stage, int pitch, int row,
                                     int column) {
    int lane = int(threadIdx.x) % 32, g = lane / 4, c = lane % 4;
    if constexpr (is_half) {
      load_transposed(to[0],
                      stage + ((row + lane % 16) * pitch + column) * bytes);
    } else {
      auto *numbers = reinterpret_cast<const float *>(stage);
      for (int half = 0; half < 2; ++half) {
        const float *at =
            numbers + (row + 2 * c + half * 8) * pitch + column + g;
        uint32_t split[parts];
        split_pair(at[0], at[pitch], split);
        for (int part = 0; part < parts; ++part)
          to[part][half] = split[part];
      }
    }
  }
};

/// Stages of latents, `[tokens, key_dim]`, whose first columns are the values.
template <typename S> struct latent_stages : stage_numbers<S> {
  typedef stage_numbers<S> numbers;
  static constexpr int tokens = numbers::tokens;
  static constexpr int columns = (S::key_dim + 15) / 16 * 16;
  static constexpr int pitch = columns + numbers::piece;
  static constexpr int stage_bytes = tokens * pitch * numbers::bytes;

  /// Brings tokens [begin, begin + tokens), of which there are those before
  /// \p end, to \p stage: zeros for others.
  static HADAL_INLINE void fetch(uint8_t *stage, const cache_pages &pages,
                                 int64_t begin, int64_t end) {
    // Rows of whole pieces that are kept as they are stored are only copied.
    constexpr bool is_whole = columns == S::key_dim && numbers::is_copy;
    constexpr int pieces = columns / numbers::piece;
    for (int i = int(threadIdx.x); i < tokens * pieces; i += team_threads) {
      int64_t token = begin + i / pieces;
      int first = i % pieces * numbers::piece;
      uint8_t *to = stage + ((i / pieces) * pitch + first) * numbers::bytes;
      if (token >= end) {
        memset(to, 0, 16);
        continue;
      }
      int64_t position = pages.position(token);
      int64_t place = position % S::page_tokens;
      const uint8_t *from = pages.of<S>(position);
      const uint8_t *latent = from + place * S::key_dim * numbers::stored_bytes;
      if constexpr (is_whole)
        copy_async(to, latent + first * numbers::stored_bytes);
      else
        numbers::write(to, [&](int i) {
          int k = first + i;
          if (k >= S::key_dim)
            return 0.0f;
          float number = numbers::widen(latent, k);
          if constexpr (S::kind == cached::int8)
            number *= reinterpret_cast<const float *>(
                from + S::scale_offset)[place * (S::key_dim / S::scale_group) +
                                        k / S::scale_group];
          return number;
        });
    }
  }

  /// Columns [k, k + 16) of eight tokens from \p token on, as the right side
  /// of `multiply_bf16`, whose columns are tokens.
  static HADAL_INLINE void load_keys(uint32_t (&to)[numbers::parts][2],
                                     const uint8_t *stage, int token, int k) {
    int g = int(threadIdx.x) % 32 / 4, c = int(threadIdx.x) % 4;
    for (int half = 0; half < 2; ++half) {
      const uint8_t *at =
          stage + ((token + g) * pitch + k + 2 * c + half * 8) * numbers::bytes;
      if constexpr (numbers::is_half) {
        memcpy(&to[0][half], at, 4);
      } else {
        float pair[2];
        memcpy(pair, at, 8);
        uint32_t split[numbers::parts];
        split_pair(pair[0], pair[1], split);
        for (int part = 0; part < numbers::parts; ++part)
          to[part][half] = split[part];
      }
    }
  }

  /// Columns [column, column + 8) of 16 tokens from \p token on.
  static HADAL_INLINE void load_values(uint32_t (&to)[numbers::parts][2],
                                       const uint8_t *stage, int token,
                                       int column) {
    numbers::load_rows(to, stage, pitch, token, column);
  }
};

/// Stages of a head's keys, `[key_dim, tokens]` as in the cache, and behind
/// them its values, `[tokens, value_dim]`, and for integers the scales of both.
template <typename S> struct head_stages : stage_numbers<S> {
  typedef stage_numbers<S> numbers;
  static constexpr int tokens = numbers::tokens;
  static constexpr int key_rows = (S::key_dim + 15) / 16 * 16;
  static constexpr int key_pitch = tokens + numbers::piece;
  static constexpr int key_bytes = key_rows * key_pitch * numbers::bytes;
  static constexpr int columns = (S::value_dim + 15) / 16 * 16;
  static constexpr int value_pitch = columns + numbers::piece;
  static constexpr int value_bytes = tokens * value_pitch * numbers::bytes;
  static constexpr int stage_bytes =
      key_bytes + value_bytes + (numbers::has_scales ? 2 * tokens * 4 : 0);
  static_assert(S::page_tokens % 16 == 0,
                "what is copied at once is of one page");

  /// As for latents. What keys have of tokens from \p end on is not said.
  static HADAL_INLINE void fetch(uint8_t *stage, const cache_pages &pages,
                                 int64_t head, int64_t begin, int64_t end) {
    constexpr int pieces = tokens / numbers::piece;
    for (int i = int(threadIdx.x); i < key_rows * pieces; i += team_threads) {
      int k = i / pieces, first = i % pieces * numbers::piece;
      int64_t token = begin + first;
      uint8_t *to = stage + (k * key_pitch + first) * numbers::bytes;
      if (k >= S::key_dim || token >= end) {
        memset(to, 0, 16);
        continue;
      }
      const uint8_t *from =
          pages.of<S>(token) + head * S::head_bytes +
          (k * S::page_tokens + token % S::page_tokens) * numbers::stored_bytes;
      if constexpr (numbers::is_copy)
        copy_async(to, from);
      else
        numbers::widen_piece(to, from);
    }
    constexpr int value_pieces = columns / numbers::piece;
    constexpr bool is_whole = columns == S::value_dim;
    for (int i = int(threadIdx.x); i < tokens * value_pieces;
         i += team_threads) {
      int64_t token = begin + i / value_pieces;
      int first = i % value_pieces * numbers::piece;
      uint8_t *to = stage + key_bytes +
                    ((i / value_pieces) * value_pitch + first) * numbers::bytes;
      if (token >= end) {
        memset(to, 0, 16);
        continue;
      }
      const uint8_t *from =
          pages.of<S>(token) + head * S::head_bytes + S::value_offset +
          token % S::page_tokens * S::value_dim * numbers::stored_bytes;
      if constexpr (is_whole && numbers::is_copy)
        copy_async(to, from + first * numbers::stored_bytes);
      else if constexpr (is_whole)
        numbers::widen_piece(to, from + first * numbers::stored_bytes);
      else
        numbers::write(to, [&](int i) {
          return first + i < S::value_dim ? numbers::widen(from, first + i) : 0;
        });
    }
    if constexpr (numbers::has_scales)
      for (int i = int(threadIdx.x); i < 2 * tokens; i += team_threads) {
        int64_t token = begin + i % tokens;
        if (token >= end)
          continue;
        const uint8_t *from =
            pages.of<S>(token) + head * S::head_bytes +
            (i < tokens ? S::scale_offset : S::value_scale_offset);
        scales(stage)[i] =
            reinterpret_cast<const float *>(from)[token % S::page_tokens];
      }
  }

  /// Those of the keys and then of the values.
  static HADAL_INLINE float *scales(uint8_t *stage) {
    return reinterpret_cast<float *>(stage + key_bytes + value_bytes);
  }

  static HADAL_INLINE void load_keys(uint32_t (&to)[numbers::parts][2],
                                     const uint8_t *stage, int token, int k) {
    numbers::load_rows(to, stage, key_pitch, k, token);
  }
  static HADAL_INLINE void load_values(uint32_t (&to)[numbers::parts][2],
                                       const uint8_t *stage, int token,
                                       int column) {
    numbers::load_rows(to, stage + key_bytes, value_pitch, token, column);
  }
};

/// Attention of blocks of rows and of heads that share keys and values, those
/// of a head of their own or latents: by all threads of a block and its tensor
/// cores. S has the sizes, as constants.
///
/// A stage of tokens comes to shared memory once for all rows and heads of the
/// block, the next one while this one is multiplied. Scores of a stage change
/// the running maximum and sum of each head, and what was summed is corrected
/// (Milakov & Gimelshein 2018, arXiv:1805.02867; Dao 2023, arXiv:2307.08691,
/// algorithm 1); sums of values stay in registers. So a block reads each token
/// once, and memory of the device has nothing else to do.
///
/// Queries and weights are three bf16 numbers each, and so is what is cached as
/// f32, as f16, and of latents as bytes with a scale: as for `products`. With
/// S::is_rounded all of them are rounded to one. What happens to a row's head
/// depends on nothing else in the block, nor does a segment of tokens on the
/// next: each begins anew, and they are merged in order.
template <typename S> struct block_attention {
  typedef typename std::conditional<S::kv_heads != 0, head_stages<S>,
                                    latent_stages<S>>::type stages;
  static constexpr bool has_heads = stages::has_heads;
  static constexpr bool is_rounded = S::is_rounded;
  static_assert(!(has_heads && is_rounded), "expects latents to be rounded");
  /// bf16 numbers of a query or a weight, and of what is cached.
  static constexpr int parts = is_rounded ? 1 : 3;
  static constexpr int cached_parts = stages::parts;

  /// Rows times heads of a block, in tiles of 16.
  static constexpr int slots = S::block_rows * S::group_heads;
  static constexpr int row_tiles = (slots + 15) / 16;
  static constexpr int padded = row_tiles * 16;
  /// Columns of a key.
  static constexpr int columns = (S::key_dim + 15) / 16 * 16;
  static constexpr int query_pitch = columns + 8;
  static constexpr int tokens = stages::tokens; ///< Of a stage.

  static constexpr int warps = team_threads / 32;
  /// Eight tokens of 16 slots are a tile of scores. It has two sums, of half of
  /// the columns each, which two warps compute where there are few tiles.
  static constexpr int halves = 2, stored_halves = row_tiles <= 2 ? halves : 1;
  static constexpr int steps = columns / 16;
  static constexpr int half_steps = (steps + halves - 1) / halves;
  static constexpr int score_pitch = tokens + 4, weight_pitch = tokens + 8;
  /// Tiles of eight columns of values, and how many of them a warp has.
  static constexpr int value_tiles = (S::value_dim + 7) / 8;
  static constexpr int own_tiles = (value_tiles + warps - 1) / warps;

  static constexpr int query_bytes = parts * padded * query_pitch * 2;
  static constexpr int score_bytes = stored_halves * padded * score_pitch * 4;
  static constexpr int weight_bytes = parts * padded * weight_pitch * 2;
  static constexpr int shared_bytes = query_bytes + 2 * stages::stage_bytes +
                                      score_bytes + weight_bytes +
                                      4 * padded * 4;

  uint8_t *memory;
  const hadal_rt_step_t *step;
  const float *query;
  const float
      *rope_query; ///< Columns of keys behind those of a value; or null.
  const int32_t *positions, *sequences;
  int64_t layer;
  const int32_t *selected;    ///< Of each row, which see no others; or null.
  const int32_t *runs;        ///< Not 0 of rows that others compute; or null.
  int64_t row = 0, group = 0; ///< Of the block.
  int rows = 0;
  int64_t most = 0, least = 0; ///< Tokens that its rows see.
  float sums[row_tiles][own_tiles][4];
  float merged_maximum = 0, merged_total = 0; ///< Of slot `threadIdx.x`.

  HADAL_INLINE block_attention(uint8_t *memory, const hadal_rt_step_t *step,
                               const float *query, const float *rope_query,
                               const int32_t *positions,
                               const int32_t *sequences, int64_t layer,
                               const int32_t *selected, const int32_t *runs)
      : memory(memory), step(step), query(query), rope_query(rope_query),
        positions(positions), sequences(sequences), layer(layer),
        selected(selected), runs(runs) {}

  /// Items [first, last): blocks of \p block_rows of \p all rows, of each group
  /// of heads. Writes results, `[rows, heads * value_dim]`, to \p out.
  HADAL_INLINE void attend_blocks(int64_t first, int64_t last, float *out,
                                  int64_t all, int64_t block_rows) {
    // Numbers of rows are of 31 bits, and many values are alive in here.
    const int count = int(all), most_rows = int(block_rows);
    const int blocks = (count + most_rows - 1) / most_rows;
    for (int item = int(first); item < int(last); ++item) {
      group = item / blocks;
      // The last rows of a prefill see most, and begin first.
      const int begin = (blocks - 1 - item % blocks) * most_rows;
      const int end = min(begin + most_rows, count);
      // Rows of several sequences share nothing, and come one by one.
      bool is_one = true;
      for (int i = begin; i < end; ++i)
        is_one &= sequences[i] == sequences[begin];
      rows = is_one ? end - begin : 1;
      for (row = begin; row < end; row += rows) {
        if (runs && count >= S::least_run && runs[row] != 0)
          continue;
        load_queries();
        count_tokens();
        const int segments = int(segment_count());
        for (int i = 0; i < segments; ++i) {
          attend_segment(segment_at(i));
          merge(segment_at(i), i == 0, i + 1 == segments, out);
        }
      }
    }
  }

  /// Items [first, last): every S::strands th segment of a row and a group.
  /// Writes sums, `[units * segments, heads, value_dim]`, and maxima and
  /// totals.
  HADAL_INLINE void attend_segments(int64_t first, int64_t last,
                                    float *partials, float *stats) {
    for (int64_t item = first; item < last; ++item) {
      int64_t unit = item / S::strands, strand = item % S::strands;
      row = unit / (S::heads / S::group_heads);
      group = unit % (S::heads / S::group_heads);
      rows = 1;
      count_tokens();
      int64_t segments = segment_count();
      if (strand >= segments)
        continue;
      load_queries();
      for (int64_t i = strand; i < segments; i += S::strands) {
        attend_segment(segment_at(i));
        int64_t partial = unit * S::segments + i;
        for_sums([&](int slot, int column, float sum) {
          if (slot < S::group_heads)
            partials[(partial * S::group_heads + slot) * S::value_dim +
                     column] = sum;
        });
        int slot = int(threadIdx.x);
        if (slot < S::group_heads) {
          stats[partial * 2 * S::group_heads + slot] = maxima()[slot];
          stats[(partial * 2 + 1) * S::group_heads + slot] = totals()[slot];
        }
      }
    }
  }

private:
  HADAL_INLINE bf16 *queries(int part) const {
    return reinterpret_cast<bf16 *>(memory) + part * padded * query_pitch;
  }
  HADAL_INLINE uint8_t *stage(int64_t number) const {
    return memory + query_bytes + number % 2 * stages::stage_bytes;
  }
  HADAL_INLINE float *scores(int half) const {
    return reinterpret_cast<float *>(memory + query_bytes +
                                     2 * stages::stage_bytes) +
           half * padded * score_pitch;
  }
  HADAL_INLINE bf16 *weights(int part) const {
    return reinterpret_cast<bf16 *>(memory + query_bytes +
                                    2 * stages::stage_bytes + score_bytes) +
           part * padded * weight_pitch;
  }
  /// Of each slot: the running maximum and sum of weights, by what that which
  /// was summed is corrected, and likewise what segments before have.
  HADAL_INLINE float *maxima() const {
    return reinterpret_cast<float *>(memory + shared_bytes) - 4 * padded;
  }
  HADAL_INLINE float *totals() const { return maxima() + padded; }
  HADAL_INLINE float *corrections() const { return maxima() + 2 * padded; }
  HADAL_INLINE float *befores() const { return maxima() + 3 * padded; }

  /// Tokens that a row sees, or how many of them are selected.
  HADAL_INLINE int64_t context_of(int64_t of) const {
    int64_t count = int64_t(positions[of]) + 1;
    return S::selected ? min(count, int64_t(S::selected)) : count;
  }
  /// The first token of the window of one that sees \p count tokens.
  static HADAL_INLINE int64_t start_of(int64_t count) {
    return S::window && count > S::window ? count - S::window : 0;
  }

  /// Counts the tokens that rows of the block see, at most and at least.
  HADAL_INLINE void count_tokens() {
    most = least = context_of(row);
    for (int i = 1; i < rows; ++i) {
      most = max(most, context_of(row + i));
      least = min(least, context_of(row + i));
    }
  }

  /// The first segment of the windows of the block, behind the sink.
  HADAL_INLINE int64_t window_segment() const {
    if constexpr (S::window != 0 && S::segment_tokens != 0)
      return max(start_of(least) / S::page_tokens * S::page_tokens /
                     S::segment_tokens,
                 int64_t(S::sink_segments));
    else
      return 0;
  }
  /// Segments that the block sees; which of all the one numbered \p i is. A
  /// context that is not split is one.
  HADAL_INLINE int64_t segment_count() const {
    if constexpr (S::segment_tokens == 0) {
      return 1;
    } else {
      int64_t all = (most + S::segment_tokens - 1) / S::segment_tokens;
      if (!S::window)
        return all;
      int64_t sinks = min(all, int64_t(S::sink_segments));
      return sinks + max(all - window_segment(), int64_t(0));
    }
  }
  HADAL_INLINE int64_t segment_at(int64_t i) const {
    return !S::window || i < S::sink_segments
               ? i
               : window_segment() + i - S::sink_segments;
  }

  /// Tiles of slots that the rows of this block take.
  HADAL_INLINE int used_tiles() const {
    return row_tiles == 1 ? 1 : (rows * int(S::group_heads) + 15) / 16;
  }

  HADAL_INLINE void load_queries() {
    __syncthreads(); // All are done with what was there.
    constexpr int own = has_heads ? S::key_dim : S::value_dim;
    for (int i = int(threadIdx.x); i < padded * (columns / 2);
         i += team_threads) {
      int slot = i / (columns / 2), column = i % (columns / 2) * 2;
      int64_t of = row + slot / S::group_heads;
      int64_t head = group * S::group_heads + slot % S::group_heads;
      auto at = [&](int k) -> float {
        if (slot >= rows * S::group_heads || k >= S::key_dim)
          return 0;
        if (k < own)
          return query[of * S::query_stride + head * own + k];
        return rope_query[of * S::rope_query_stride + head * S::rope_columns +
                          S::rope_columns - S::key_dim + k];
      };
      uint32_t split[parts];
      split_pair(at(column), at(column + 1), split);
      for (int part = 0; part < parts; ++part)
        memcpy(queries(part) + slot * query_pitch + column, &split[part], 4);
    }
  }

  /// Brings tokens [begin, begin + tokens) before \p end to stage \p number.
  HADAL_INLINE void fetch(int64_t number, int64_t begin, int64_t end) {
    cache_pages pages = {step, sequences[row], layer, nullptr};
    if constexpr (has_heads) {
      constexpr int64_t heads_of_key = S::heads / S::kv_heads;
      int64_t head = group * S::group_heads / heads_of_key;
      stages::fetch(stage(number), pages, head, begin, end);
    } else {
      if (S::selected)
        pages.selected = selected + row * S::selected_stride;
      stages::fetch(stage(number), pages, begin, end);
    }
    commit_copies();
  }

  /// 16 columns, from \p k on, of the 16 slots of \p tile as the left side of
  /// `multiply_bf16`.
  static HADAL_INLINE void load_left(uint32_t (&to)[4], const bf16 *rows,
                                     int row_pitch, int tile, int k) {
    int g = int(threadIdx.x) % 32 / 4, c = int(threadIdx.x) % 4;
    for (int i = 0; i < 4; ++i)
      memcpy(&to[i],
             rows + (tile * 16 + g + i % 2 * 8) * row_pitch + k + 2 * c +
                 i / 2 * 8,
             4);
  }

  /// All products of the parts of both sides, those of the largest first.
  static HADAL_INLINE void multiply(float (&sums)[4],
                                    const uint32_t (&left)[parts][4],
                                    const uint32_t (&right)[cached_parts][2]) {
    for (int i = 0; i < parts + cached_parts - 1; ++i)
      for (int part = 0; part < parts; ++part)
        if (i - part >= 0 && i - part < cached_parts)
          multiply_bf16(sums, left[part], right[i - part]);
  }

  HADAL_INLINE void score(const uint8_t *stage) {
    int warp = int(threadIdx.x) / 32;
    int g = int(threadIdx.x) % 32 / 4, c = int(threadIdx.x) % 4;
    int tiles = used_tiles() * (tokens / 8);
    for (int unit = warp; unit < tiles * stored_halves; unit += warps) {
      int tile = unit % tiles, place = unit / tiles;
      int slot_tile = tile / (tokens / 8), token = tile % (tokens / 8) * 8;
      float dots[4] = {};
      for (int half = place; half < halves; half += stored_halves) {
        float some[4] = {};
        int end = min((half + 1) * half_steps, int(steps));
        for (int k = half * half_steps; k < end; ++k) {
          uint32_t left[parts][4], right[cached_parts][2];
          for (int part = 0; part < parts; ++part)
            load_left(left[part], queries(part), query_pitch, slot_tile,
                      k * 16);
          stages::load_keys(right, stage, token, k * 16);
          multiply(some, left, right);
        }
        for (int i = 0; i < 4; ++i)
          dots[i] += some[i];
      }
      float *to = scores(place) + (slot_tile * 16 + g) * score_pitch + token;
      for (int i = 0; i < 4; ++i)
        to[i / 2 * 8 * score_pitch + 2 * c + i % 2] = dots[i];
    }
  }

  /// Makes weights of the scores of tokens from \p begin on, those of \p stage.
  /// A warp has a slot at a time, a lane a token.
  HADAL_INLINE void weigh(uint8_t *stage, int64_t begin, int64_t end) {
    int lane = int(threadIdx.x) % 32;
    for (int slot = int(threadIdx.x) / 32; slot < used_tiles() * 16;
         slot += warps) {
      bool is_slot = slot < rows * S::group_heads;
      int64_t count =
          is_slot ? min(context_of(row + slot / S::group_heads), end) : 0;
      int64_t token = begin + lane;
      bool is_seen = lane < tokens && token < count;
      if (S::window && is_slot && token >= S::sink)
        is_seen &= token >= start_of(context_of(row + slot / S::group_heads));
      float sum = 0;
      for (int half = 0; half < stored_halves && lane < tokens; ++half)
        sum += scores(half)[slot * score_pitch + lane];
      sum *= S::scale();
      if constexpr (stages::has_scales)
        sum *= stages::scales(stage)[lane];
      float value = is_seen ? sum : -1e30f, most = value;
      for (int bits = 16; bits > 0; bits /= 2)
        most = max(most, __shfl_xor_sync(0xffffffffu, most, bits));
      float old = maxima()[slot], now = max(old, most);
      float weight = is_seen ? exp(value - now) : 0;
      uint32_t split[parts];
      float scaled = weight;
      if constexpr (stages::has_scales)
        scaled = is_seen ? weight * stages::scales(stage)[tokens + lane] : 0;
      split_pair(scaled, 0.0f, split);
      float total = is_rounded ? first_of(split[0]) : weight;
      for (int bits = 16; bits > 0; bits /= 2)
        total += __shfl_xor_sync(0xffffffffu, total, bits);
      if (lane < tokens)
        for (int part = 0; part < parts; ++part)
          weights(part)[slot * weight_pitch + lane] = bf16(split[part]);
      __syncwarp();
      if (lane == 0) {
        float correction = exp(old - now);
        maxima()[slot] = now;
        corrections()[slot] = correction;
        totals()[slot] = fma(totals()[slot], correction, total);
      }
    }
  }

  HADAL_INLINE void add_values(const uint8_t *stage) {
    int warp = int(threadIdx.x) / 32, g = int(threadIdx.x) % 32 / 4;
    HADAL_UNROLL
    for (int m = 0; m < row_tiles; ++m) {
      if (m >= used_tiles())
        continue;
      float low = corrections()[m * 16 + g],
            high = corrections()[m * 16 + g + 8];
      HADAL_UNROLL
      for (int n = 0; n < own_tiles; ++n)
        for (int i = 0; i < 4; ++i)
          sums[m][n][i] *= i < 2 ? low : high;
    }
    for (int token = 0; token < tokens; token += 16) {
      HADAL_UNROLL
      for (int n = 0; n < own_tiles; ++n) {
        int tile = n * warps + warp;
        if (tile >= value_tiles)
          continue;
        uint32_t right[cached_parts][2];
        stages::load_values(right, stage, token, tile * 8);
        HADAL_UNROLL
        for (int m = 0; m < row_tiles; ++m) {
          if (m >= used_tiles())
            continue;
          uint32_t left[parts][4];
          for (int part = 0; part < parts; ++part)
            load_left(left[part], weights(part), weight_pitch, m, token);
          multiply(sums[m][n], left, right);
        }
      }
    }
  }

  /// Attends to the tokens of segment \p segment.
  HADAL_INLINE void attend_segment(int64_t segment) {
    int64_t begin = segment * S::segment_tokens, end = most;
    if (S::segment_tokens)
      end = min(begin + S::segment_tokens, most);
    __syncthreads(); // All have read what was there, and queries are.
    for (int slot = int(threadIdx.x); slot < padded; slot += team_threads) {
      maxima()[slot] = -1e29f;
      totals()[slot] = 0;
    }
    for (auto &tile : sums)
      for (auto &columns : tile)
        for (float &sum : columns)
          sum = 0;
    // Stages between the sink and the window of the first row have nothing.
    int64_t start = start_of(least);
    auto next = [&](int64_t at) {
      bool is_hidden = S::window && at >= S::sink && at + tokens <= start;
      return is_hidden ? at + (start - at) / tokens * tokens : at;
    };
    int64_t at = next(begin);
    if (at < end)
      fetch(0, at, end);
    for (int64_t number = 0; at < end; ++number) {
      int64_t following = next(at + tokens);
      if (following < end)
        fetch(number + 1, following, end);
      else
        commit_copies();
      wait_copies<1>();
      __syncthreads();
      score(stage(number));
      __syncthreads();
      weigh(stage(number), at, end);
      __syncthreads();
      add_values(stage(number));
      __syncthreads(); // Its place is for the stage after the next.
      at = following;
    }
    wait_copies<0>();
    __syncthreads();
  }

  /// Calls \p f for each sum that this thread has: slot, column, and the sum.
  template <typename F> HADAL_INLINE void for_sums(F f) {
    int warp = int(threadIdx.x) / 32;
    int g = int(threadIdx.x) % 32 / 4, c = int(threadIdx.x) % 4;
    HADAL_UNROLL
    for (int m = 0; m < row_tiles; ++m)
      HADAL_UNROLL
    for (int n = 0; n < own_tiles; ++n)
      for (int i = 0; i < 4; ++i) {
        int column = (n * warps + warp) * 8 + 2 * c + i % 2;
        if (column < S::value_dim)
          f(m * 16 + g + i / 2 * 8, column, sums[m][n][i]);
      }
  }

  /// Adds a segment to those before it, which are in \p out, and divides by the
  /// sum of weights after the last one.
  HADAL_INLINE void merge(int64_t segment, bool is_first, bool is_last,
                          float *out) {
    int slot = int(threadIdx.x);
    if (slot < padded) {
      if (is_first) {
        merged_maximum = -1e29f;
        merged_total = 0;
      }
      // A row of the block may end before this segment.
      int64_t seen = slot < rows * S::group_heads
                         ? context_of(row + slot / S::group_heads)
                         : 0;
      float before = 1, now = 0;
      if (segment * S::segment_tokens < seen) {
        float most = max(merged_maximum, maxima()[slot]);
        before = exp(merged_maximum - most);
        now = exp(maxima()[slot] - most);
        merged_total = fma(totals()[slot], now, merged_total * before);
        merged_maximum = most;
      }
      befores()[slot] = before;
      corrections()[slot] = now;
      totals()[slot] = merged_total;
    }
    __syncthreads();
    for_sums([&](int slot, int column, float sum) {
      if (slot >= rows * S::group_heads)
        return;
      int64_t head = group * S::group_heads + slot % S::group_heads;
      float &to = out[(row + slot / S::group_heads) * S::out_stride +
                      head * S::value_dim + column];
      float merged = is_first ? 0 : to;
      merged = fma(sum, corrections()[slot], merged * befores()[slot]);
      to = is_last ? merged * (1 / totals()[slot]) : merged;
    });
  }
};

HADAL_INLINE int64_t address_of(const void *memory) {
  return int64_t(reinterpret_cast<uintptr_t>(memory));
}

} // namespace hadal_cuda

#endif // HADAL_RT_KERNELS_CUH
