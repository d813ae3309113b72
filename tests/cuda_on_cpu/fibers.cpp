// Fibers: a block of CUDA threads on one CPU thread.
//
// Every CUDA thread has a stack of its own. It runs until it waits for others, at __syncthreads or
// in a shuffle; then the next one runs, in an order that the caller chooses.
#include "fibers.h"

#include <csetjmp>
#include <random>
#include <ucontext.h>

#define BUILTIN __attribute__((section("cuda_builtin")))
BUILTIN Three threadIdx;
BUILTIN Three blockIdx;
BUILTIN Three blockDim;
BUILTIN Three gridDim;

namespace on_cpu {
enum State { READY, AT_BARRIER, IN_WARP, DONE };

struct Fiber {
    State state;
    bool started;
    Three thread;
    jmp_buf here;
    ucontext_t start;
    alignas(16) unsigned char slot[16];  // what this thread shows to its warp
};

const size_t STACK = 128 * 1024;
std::vector<char> stacks;
int current;
long block, barriers;
std::string failure;
static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static void (*body)();

void fail(const std::string& what) {
    if (failure.empty()) failure = what;
}

std::string name(int thread) {
    const Three& at = fibers[thread].thread;
    return "thread (" + std::to_string(at.x) + ", " + std::to_string(at.y) + ") of block " +
           std::to_string(block);
}

static void enter() {
    body();
    fibers[current].state = DONE;
    _longjmp(scheduler, 1);
}

static void wait(State state) {
    fibers[current].state = state;
    if (!_setjmp(fibers[current].here)) _longjmp(scheduler, 1);
}

static void resume(int thread) {
    Fiber& fiber = fibers[thread];
    current = thread, threadIdx = fiber.thread;
    if (_setjmp(scheduler)) return;
    if (fiber.started) _longjmp(fiber.here, 1);
    fiber.started = true;
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = stacks.data() + thread * STACK;
    fiber.start.uc_stack.ss_size = STACK;
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, enter, 0);
    setcontext(&fiber.start);
}

static int in_state(State state, int first, int last) {
    return static_cast<int>(std::count_if(fibers.begin() + first, fibers.begin() + last,
                                          [&](const Fiber& f) { return f.state == state; }));
}

// Lets those go on whose barrier or warp is complete; false where nobody can.
static bool release() {
    const int n = static_cast<int>(fibers.size());
    bool any = false;
    for (int warp = 0; warp < n; warp += 32) {
        const int last = min(warp + 32, n);
        if (in_state(IN_WARP, warp, last) < 32) continue;
        for (int i = warp; i < last; ++i) fibers[i].state = READY;
        any = true;
    }
    if (any || in_state(AT_BARRIER, 0, n) + in_state(DONE, 0, n) < n) return any;
    ++barriers;
    for (Fiber& f : fibers)
        if (f.state == AT_BARRIER) f.state = READY, any = true;
    return any;
}

static std::vector<int> order_of(int n, unsigned seed) {
    std::vector<int> order(n);
    for (int i = 0; i < n; ++i) order[i] = seed == 1 ? n - 1 - i : i;
    std::mt19937 random(seed);
    if (seed > 1) std::shuffle(order.begin(), order.end(), random);
    return order;
}

static void run_block(const std::vector<int>& order) {
    const int n = static_cast<int>(fibers.size());
    for (int i = 0; i < n; ++i) {
        fibers[i].state = READY, fibers[i].started = false;
        fibers[i].thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    }
    if (__start_block_shared)
        memset(__start_block_shared, 0xcd, __stop_block_shared - __start_block_shared);
    barriers = 0;
    while (in_state(DONE, 0, n) < n && failure.empty()) {
        for (int i : order)
            if (fibers[i].state == READY) resume(i);
        if (in_state(READY, 0, n) == 0 && in_state(DONE, 0, n) < n && !release())
            fail("not all threads of a warp came to a shuffle");
    }
}

// grid and block have three numbers each; order 0 is first to last, 1 is last to first, others are
// shuffled: the blocks and the threads of each.
void launch(void (*kernel)(), const unsigned* grid, const unsigned* threads, unsigned order,
            char* message, size_t size) {
    gridDim = {grid[0], grid[1], grid[2]}, blockDim = {threads[0], threads[1], threads[2]};
    const int n = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
    fibers.assign(n, Fiber());
    stacks.resize(n * STACK);
    body = kernel;
    failure.clear();
    const std::vector<int> of_threads = order_of(n, order);
    for (int i : order_of(static_cast<int>(grid[0] * grid[1] * grid[2]), order)) {
        block = i;
        blockIdx = {i % grid[0], i / grid[0] % grid[1], i / grid[0] / grid[1]};
        if (failure.empty()) run_block(of_threads);
    }
    strncpy(message, failure.c_str(), size - 1);
}

void barrier() { wait(AT_BARRIER); }

void exchange(const void* value, void* other, int lane) {
    memcpy(fibers[current].slot, value, sizeof fibers[current].slot);
    wait(IN_WARP);
    memcpy(other, fibers[current / 32 * 32 + lane].slot, sizeof fibers[current].slot);
    wait(IN_WARP);
}
}  // namespace on_cpu
