// Who read and wrote what: every access of a kernel to memory that threads can share.
//
// Two threads that use the same bytes, one of them writing, are in a race, unless both add by
// atomics, or are of one block with a barrier between them, or of one team with a barrier of the
// team; the teams of a launch do not change. What is neither an argument of the launch nor shared
// memory nor on a stack is out of bounds.
#include "fibers.h"

#include <unordered_map>

extern char __start_cuda_builtin[], __stop_cuda_builtin[];
extern char __ehdr_start[] __attribute__((visibility("hidden")));
extern char _end[] __attribute__((visibility("hidden")));  // of this library: its constants

namespace watch {
struct Access {
    int thread = -1;
    long block = -1, barrier = -1, passed = -1;  // passed: barriers of its team
    bool atomic = false;
};
struct Seen {
    Access write, read, other_read;  // the last ones; two reads, by different threads
    bool copied = false;             // is being written, by a copy that runs by itself
};
struct Range {
    uintptr_t begin, end;
    int argument;
};

static std::unordered_map<uintptr_t, Seen> seen;  // by two bytes, the smallest number
static std::vector<Range> arguments;
static bool on;

static bool within(uintptr_t at, const void* begin, const void* end) {
    return at >= reinterpret_cast<uintptr_t>(begin) && at < reinterpret_cast<uintptr_t>(end);
}

static bool is_shared(uintptr_t at) {
    return __start_block_shared && within(at, __start_block_shared, __stop_block_shared);
}

static bool is_own(uintptr_t at) {
    const auto& stacks = on_cpu::stacks;
    return within(at, stacks.data(), stacks.data() + stacks.size()) ||
           within(at, __start_cuda_builtin, __stop_cuda_builtin);
}

static const Range* argument_of(uintptr_t at, size_t size) {
    for (const Range& range : arguments)
        if (at >= range.begin && at + size <= range.end) return &range;
    return nullptr;
}

static bool collide(const Access& before, const Access& now, bool shared) {
    if (before.thread < 0 || (before.atomic && now.atomic)) return false;
    if (before.block != now.block) return !shared;  // a block has shared memory of its own
    if (on_cpu::same_team(before.thread) && before.passed < now.passed) return false;
    return before.thread != now.thread && before.barrier == now.barrier;
}

static void report(const char* what, uintptr_t at, int thread, const Access& before) {
    const Range* range = argument_of(at, 1);
    const std::string where =
        range ? "byte " + std::to_string(at - range->begin) + " of argument " +
                    std::to_string(range->argument)
              : "byte " + std::to_string(at - reinterpret_cast<uintptr_t>(__start_block_shared)) +
                    " of shared memory";
    on_cpu::fail(std::string(what) + " " + where + " by " + on_cpu::name(thread) + " and thread " +
                 std::to_string(before.thread) + " of block " + std::to_string(before.block) +
                 " with no barrier between them");
}

static void look(uintptr_t at, bool write, bool atomic) {
    const bool shared = is_shared(at);
    Seen& was = seen[at / 2];
    const Access now = {on_cpu::current, on_cpu::block, on_cpu::barriers, on_cpu::passed(),
                        atomic};
    if (was.copied && shared)
        on_cpu::fail("shared memory is used by " + on_cpu::name(now.thread) +
                     " while it is being copied");
    if (collide(was.write, now, shared))
        report(write ? "two writes to" : "a read of what is written,", at, now.thread, was.write);
    if (write) {
        for (const Access& read : {was.read, was.other_read})
            if (collide(read, now, shared))
                report("a write to what is read,", at, now.thread, read);
        was.write = now;
    } else {
        if (was.read.thread != now.thread || was.read.block != now.block) was.other_read = was.read;
        was.read = now;
    }
}

static void access(const void* address, size_t size, bool write, bool atomic = false) {
    if (!on) return;
    const uintptr_t at = reinterpret_cast<uintptr_t>(address);
    if (is_own(at)) return;
    if (!is_shared(at) && !argument_of(at, size)) {
        if (!write && within(at, __ehdr_start, _end)) return;
        on_cpu::fail(std::string(write ? "a write" : "a read") + " out of bounds by " +
                     on_cpu::name(on_cpu::current));
    }
    for (size_t i = 0; i < size; i += 2) look(at + i, write, atomic);
}
}  // namespace watch

void on_cpu::seen(const void* at, size_t size, bool write) { watch::access(at, size, write); }

void on_cpu::check_shared(const void* begin, size_t size) {
    const uintptr_t at = reinterpret_cast<uintptr_t>(begin);
    if (watch::on && !(watch::is_shared(at) && watch::is_shared(at + size - 1)))
        on_cpu::fail("an access out of bounds of shared memory by " +
                     on_cpu::name(on_cpu::current));
}

void on_cpu::begin_copy(void* to, size_t size) {
    if (!watch::on) return;
    const uintptr_t at = reinterpret_cast<uintptr_t>(to);
    check_shared(to, size);
    watch::access(to, size, true);
    for (size_t i = 0; i < size; i += 2) watch::seen[(at + i) / 2].copied = true;
}

void on_cpu::drop_copy(void* to, size_t size) {
    if (!watch::on) return;
    const uintptr_t at = reinterpret_cast<uintptr_t>(to);
    for (size_t i = 0; i < size; i += 2) watch::seen[(at + i) / 2].copied = false;
}

void on_cpu::end_copy(void* to, size_t size) {
    drop_copy(to, size);
    watch::access(to, size, true);
}

void on_cpu::add_seen(const void* sum, size_t size) { watch::access(sum, size, true, true); }

#define WATCHED(SIZE)                                                                              \
    extern "C" void __tsan_read##SIZE(void* at) { watch::access(at, SIZE, false); }                \
    extern "C" void __tsan_write##SIZE(void* at) { watch::access(at, SIZE, true); }                \
    extern "C" void __tsan_unaligned_read##SIZE(void* at) { watch::access(at, SIZE, false); }      \
    extern "C" void __tsan_unaligned_write##SIZE(void* at) { watch::access(at, SIZE, true); }
WATCHED(1)
WATCHED(2)
WATCHED(4)
WATCHED(8)
WATCHED(16)
extern "C" void __tsan_read_range(void* at, size_t n) { watch::access(at, n, false); }
extern "C" void __tsan_write_range(void* at, size_t n) { watch::access(at, n, true); }
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_init() {}

// What -fsanitize=alignment calls at a pointer that its type does not allow; a GPU would stop.
extern "C" void __ubsan_handle_type_mismatch_v1(void*, void*) {
    if (watch::on) on_cpu::fail("a misaligned access by " + on_cpu::name(on_cpu::current));
}

// Watches the accesses of the launches to come, or not. `ranges` has three numbers for each of
// `count` arrays: where it begins and ends, and which argument it is.
extern "C" void watch_arrays(bool watched, const uintptr_t* ranges, int count) {
    watch::seen.clear(), watch::arguments.clear(), watch::on = watched;
    for (int i = 0; i < count; ++i)
        watch::arguments.push_back(
            {ranges[3 * i], ranges[3 * i + 1], static_cast<int>(ranges[3 * i + 2])});
}
