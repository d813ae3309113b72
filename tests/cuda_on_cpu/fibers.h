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

void fail(const std::string& what);
std::string name(int thread);
void launch(void (*kernel)(), const unsigned* grid, const unsigned* threads, unsigned order,
            char* message, size_t size);
}  // namespace on_cpu
