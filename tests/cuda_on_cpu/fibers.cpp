// Fibers: a block of CUDA threads on one CPU thread.
//
// Every CUDA thread has a stack of its own. It runs until it waits for others, at __syncthreads or
// in a shuffle; then the next one runs, in an order that the caller chooses.
#include "fibers.h"

#include "copies.h"

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
    unsigned team;  // the lanes of its warp that it waits for
    long passed;    // how many team barriers it has passed
    alignas(16) unsigned char slot[16];  // what this thread shows to its warp
    alignas(16) unsigned char page[2][32];  // the same, of `show`: one is read, one is written
    int turn;
};

const size_t STACK = 64 * 1024;
std::vector<char> stacks;
int current;
long block, barriers;
std::string failure;
static std::vector<Fiber> fibers;
static jmp_buf scheduler;
static void (*body)();


std::string name(int thread) {
    const Three& at = fibers[thread].thread;
    return "thread (" + std::to_string(at.x) + ", " + std::to_string(at.y) + ") of block " +
           std::to_string(block);
}

void fail(const std::string& what) {
    failure = what;
    fibers[current].state = DONE;
    _longjmp(scheduler, 1);
}

void stop() {
    fibers[current].state = DONE;
    _longjmp(scheduler, 1);
}

static void enter() {
    body();
    stop();
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

// Whether all threads that a thread waits for, in its warp, wait for the same ones.
static bool complete(int thread) {
    for (int lane = 0; lane < 32; ++lane) {
        const size_t other = thread / 32 * 32 + lane;
        if (!(fibers[thread].team >> lane & 1)) continue;
        if (other >= fibers.size() || fibers[other].state != IN_WARP ||
            fibers[other].team != fibers[thread].team)
            return false;
    }
    return true;
}

// Lets those go on whose barrier or team is complete; false where nobody can.
static bool release() {
    const int n = static_cast<int>(fibers.size());
    bool any = false;
    for (int i = 0; i < n; ++i) {
        if (fibers[i].state != IN_WARP || !complete(i)) continue;
        for (int lane = 0; lane < 32; ++lane)
            if (fibers[i].team >> lane & 1) fibers[i / 32 * 32 + lane].state = READY;
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
        fibers[i].team = 0, fibers[i].passed = 0, fibers[i].turn = 0;
        fibers[i].thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    }
    if (__start_block_shared)
        memset(__start_block_shared, 0xcd, __stop_block_shared - __start_block_shared);
    barriers = 0;
    forget_copies();
    while (in_state(DONE, 0, n) < n && failure.empty()) {
        for (int i : order)
            if (fibers[i].state == READY && failure.empty()) resume(i);
        if (failure.empty() && in_state(READY, 0, n) == 0 && in_state(DONE, 0, n) < n && !release())
            fail("not all threads of a team came to a shuffle or barrier");
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

static void wait_for(unsigned team) {
    fibers[current].team = team;
    wait(IN_WARP);
}

void team_barrier(unsigned team) {
    wait_for(team);
    ++fibers[current].passed;
}

long passed() { return fibers[current].passed; }

bool same_team(int thread) {
    return thread / 32 == current / 32 && fibers[current].team >> thread % 32 & 1;
}

void exchange(unsigned team, const void* value, void* other, int lane) {
    memcpy(fibers[current].slot, value, sizeof fibers[current].slot);
    wait_for(team);
    memcpy(other, fibers[current / 32 * 32 + lane].slot, sizeof fibers[current].slot);
    wait_for(team);
}

// Who comes to the next `show` has read what was shown before the last one: two pages are enough.
void show(const void* value, size_t size) {
    Fiber& fiber = fibers[current];
    fiber.turn ^= 1;
    memcpy(fiber.page[fiber.turn], value, size);
    wait_for(0xffffffffu);
}

const void* shown(int lane) {
    return fibers[current / 32 * 32 + lane].page[fibers[current].turn];
}
}  // namespace on_cpu
