// cp.async: each thread has a queue of copies. They are made when a wait has to, not earlier, and
// from when they are asked for until then nobody may use the bytes that they write.
#include "copies.h"

#include <deque>

#include "fibers.h"

namespace on_cpu {
struct Copy {
    void* to;  // nullptr: the end of a group
    const void* from;
};
static std::vector<std::deque<Copy>> queues;

static std::deque<Copy>& mine() {
    if (queues.size() <= static_cast<size_t>(current)) queues.resize(current + 1);
    return queues[current];
}

static bool aligned(const void* at) { return reinterpret_cast<uintptr_t>(at) % 16 == 0; }

void check_aligned(const void* sum) {
    if (!aligned(sum)) fail("a misaligned addition by " + name(current));
}

void copy_later(void* shared, const void* global) {
    if (!aligned(shared) || !aligned(global)) fail("a misaligned copy by " + name(current));
    if (global) seen(global, 16, false);
    begin_copy(shared, 16);
    mine().push_back({shared, global});
}

void commit() { mine().push_back({nullptr, nullptr}); }

void wait_for_copies(int groups) {
    auto& queue = mine();
    auto ends = std::count_if(queue.begin(), queue.end(), [](const Copy& c) { return !c.to; });
    for (; ends > groups; queue.pop_front()) {
        const Copy& next = queue.front();
        if (!next.to) {
            --ends;
            continue;
        }
        end_copy(next.to, 16);
        if (next.from) memcpy(next.to, next.from, 16);
        else memset(next.to, 0, 16);
    }
}

void forget_copies() {
    for (const auto& queue : queues)
        for (const Copy& copy : queue)
            if (copy.to) drop_copy(copy.to, 16);
    queues.clear();
}

void seen_of_shared(const void* at, bool write) {
    if (!aligned(at)) fail("a misaligned row of shared memory by " + name(current));
    check_shared(at, 16);
    seen(at, 16, write);
}
}  // namespace on_cpu
