// The kernels of one file, by name; SOURCE and KERNELS are set by `builds.py`.
#include "fibers.h"
#include SOURCE

// What went wrong, in `message` of `size` bytes; nothing if nothing did.
extern "C" UNSEEN void launch(const char* name, const unsigned* grid, const unsigned* threads,
                              void** arguments, unsigned order, char* message, size_t size) {
    void (*kernel)() = nullptr;
#define KERNEL(NAME) \
    if (strcmp(name, #NAME) == 0) kernel = on_cpu::bound(NAME, arguments);
    KERNELS
    on_cpu::launch(kernel, grid, threads, order, message, size);
}
