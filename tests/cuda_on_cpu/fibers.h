// What `fibers.cpp` and `watch.cpp` know of each other.
#pragma once
#include <string>
#include <vector>

#include "cuda.h"

namespace on_cpu {
extern std::vector<char> stacks;  // of all threads of the block
extern int current;               // the thread that runs
extern long block, barriers;      // the block that runs, and how many barriers it has passed
extern std::string failure;       // the first thing that went wrong, or nothing

long passed();               // how many team barriers the thread that runs has passed
bool same_team(int thread);  // whether the last one was for this thread too

void seen(const void* at, size_t size, bool write);  // an access that no call shows
void check_shared(const void* begin, size_t size);       // fails if it is not shared memory
void begin_copy(void* to, size_t size);  // to shared memory, by itself: nobody may use it until
void end_copy(void* to, size_t size);    // the thread has waited for it; then it is a write
void drop_copy(void* to, size_t size);   // or the block has ended

void fail(const std::string& what);
void stop();                 // ends the thread that runs
std::string name(int thread);
void launch(void (*kernel)(), const unsigned* grid, const unsigned* threads, unsigned order,
            char* message, size_t size);
}  // namespace on_cpu
