// SPDX-License-Identifier: Apache-2.0
// A plugin of QEMU's emulator: how often each instruction ran between the two marks of `writes`.
//
// count_plugin.so,out=FILE: FILE holds lines "ADDRESS COUNT", in hexadecimal and decimal; what ran
// outside the kernel is one line, at address 0. For one virtual CPU. Debian packages no header of
// the interface (version 1), so what is used of it is declared here.
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef void (*on_translation)(qemu_plugin_id_t, struct qemu_plugin_tb*);
typedef void (*on_execution)(unsigned int, void*);

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, on_translation);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb*);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb*, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn*);
const void* qemu_plugin_insn_data(const struct qemu_plugin_insn*);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn*);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn*, int add_u64, void*,
                                                uint64_t);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn*, on_execution, int no_regs,
                                            void*);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;
__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t, const void*, int,
                                                               char**);

enum { kSlots = 1 << 22 };
static struct slot {
    uint64_t address, count, before;
}* slots;
static const char* path;

static struct slot* slot_of(uint64_t address) {
    uint64_t i = (address * 0x9e3779b97f4a7c15U) >> 42;
    while (slots[i].address && slots[i].address != address) i = (i + 1) % kSlots;
    slots[i].address = address;
    return &slots[i];
}

static void begin(unsigned int cpu, void* data) {
    (void)cpu, (void)data;
    for (size_t i = 0; i < kSlots; ++i) slots[i].before = slots[i].count;
}

static void end(unsigned int cpu, void* data) {
    (void)cpu, (void)data;
    FILE* out = fopen(path, "w");
    if (!out) abort();
    for (size_t i = 0; i < kSlots; ++i) {
        uint64_t count = slots[i].count - slots[i].before;
        uint64_t address = slots[i].address >> 63 ? slots[i].address : 0;
        if (count) fprintf(out, "%lx %lu\n", address, count);
    }
    fclose(out);
}

// nopl "eb??"(%rax,%rax,1): see writes.cc.
static void look_for_mark(struct qemu_plugin_insn* insn) {
    static const unsigned char kBegin[] = {0x0f, 0x1f, 0x84, 0x00, 'e', 'b', 'b', '1'};
    static const unsigned char kEnd[] = {0x0f, 0x1f, 0x84, 0x00, 'e', 'b', 'b', '2'};
    if (qemu_plugin_insn_size(insn) != sizeof(kBegin)) return;
    const void* bytes = qemu_plugin_insn_data(insn);
    if (memcmp(bytes, kBegin, sizeof(kBegin)) == 0)
        qemu_plugin_register_vcpu_insn_exec_cb(insn, begin, 0, NULL);
    if (memcmp(bytes, kEnd, sizeof(kEnd)) == 0)
        qemu_plugin_register_vcpu_insn_exec_cb(insn, end, 0, NULL);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb* tb) {
    (void)id;
    for (size_t i = 0; i < qemu_plugin_tb_n_insns(tb); ++i) {
        struct qemu_plugin_insn* insn = qemu_plugin_tb_get_insn(tb, i);
        uint64_t address = qemu_plugin_insn_vaddr(insn);
        bool kernel = address >> 63;
        struct slot* slot = slot_of(kernel ? address : 1);
        qemu_plugin_register_vcpu_insn_exec_inline(insn, 0, &slot->count, 1);
        if (!kernel) look_for_mark(insn);
    }
}

int qemu_plugin_install(qemu_plugin_id_t id, const void* info, int argc, char** argv) {
    (void)info;
    if (argc != 1 || strncmp(argv[0], "out=", 4) != 0) return 1;
    path = strdup(argv[0] + 4);
    slots = calloc(kSlots, sizeof(*slots));
    if (!path || !slots) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
