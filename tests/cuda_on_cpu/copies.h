// What a warp shows itself, and copies to shared memory that run by themselves; see `copies.cpp`.
#pragma once
#include <cstddef>

namespace on_cpu {
void show(const void* value, size_t size);  // up to 32 bytes, to the warp; waits for all of it
const void* shown(int lane);                // by this lane, until the next `show`

void seen_of_shared(const void* at, bool write);  // an access to 16 bytes of shared memory
void copy_later(void* shared, const void* global);  // 16 bytes; zeros from nullptr
void commit();                     // the copies since the last one are a group
void wait_for_copies(int groups);  // until at most so many groups of this thread are under way
void forget_copies();              // of a block that has ended
}  // namespace on_cpu
