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

void fail(const std::string& what);
void stop();                 // ends the thread that runs
std::string name(int thread);
void launch(void (*kernel)(), const unsigned* grid, const unsigned* threads, unsigned order,
            char* message, size_t size);
}  // namespace on_cpu
